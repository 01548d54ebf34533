//! When what nodes tell of releases is worth an attempt: one release, a quorum.
//!
//! Words of different releases don't add up: an attempt for the sake of one node
//! would come too early, and the words that follow would be too few for another. Nodes are
//! not heard in step: one may tell of the next release, or of an undo on it alone, before
//! another has told of this one.

use super::token::FencingToken;

/// So many releases that a node told of last are remembered.
const REMEMBERED: usize = 2;

/// What the nodes told of one lock so far.
#[derive(Clone, Debug)]
pub(crate) struct Word {
    quorum: usize,
    /// The releases that each node told of last, the latest first.
    told: Vec<[Option<FencingToken>; REMEMBERED]>,
    /// Nodes where a release may have gone unheard.
    unheard: Vec<bool>,
}

impl Word {
    /// Nothing was told yet.
    #[must_use]
    pub(crate) fn of(nodes: usize, quorum: usize) -> Self {
        Self {
            quorum,
            told: vec![[None; REMEMBERED]; nodes],
            unheard: vec![false; nodes],
        }
    }

    /// A node tells of a release, or, without one, that it can be heard only now.
    /// Whether the lock should be tried.
    pub(crate) fn hear(&mut self, node: usize, release: Option<FencingToken>) -> bool {
        self.unheard[node] = release.is_none();
        if release.is_some() {
            self.told[node].rotate_right(1);
            self.told[node][0] = release;
        }
        if release.is_some() && self.count(|told, _| told.contains(&release)) >= self.quorum {
            for told in self.told.iter_mut().flatten() {
                *told = told.filter(|told| Some(*told) != release);
            }
            self.unheard.fill(false);
            return true;
        }
        let perhaps = |release: Option<FencingToken>| {
            let may =
                |told: &[_], unheard| unheard || (release.is_some() && told.contains(&release));
            self.unheard.contains(&true) && self.count(may) >= self.quorum
        };
        let heard = match release {
            Some(_) => perhaps(release),
            None => perhaps(None) || self.told.iter().flatten().any(|told| perhaps(*told)),
        };
        if heard {
            self.unheard.fill(false);
        }
        heard
    }

    fn count(&self, counts: impl Fn(&[Option<FencingToken>], bool) -> bool) -> usize {
        let nodes = self.told.iter().zip(&self.unheard);
        nodes
            .filter(|(told, unheard)| counts(*told, **unheard))
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(word: &mut Word, words: &[(usize, u64)]) -> Vec<bool> {
        let token = |token: u64| Some(FencingToken::new(token)).filter(|_| token > 0);
        let hear = |(node, release): &(usize, u64)| word.hear(*node, token(*release));
        words.iter().map(hear).collect()
    }

    #[test]
    fn each_release_is_heard_once_when_a_quorum_told_of_it() {
        let mut word = Word::of(5, 3);
        for release in 1..9 {
            let words: Vec<_> = (0..5).map(|node| (node, release)).collect();
            assert_eq!(heard(&mut word, &words), [false, false, true, false, false]);
        }
        // Two nodes away: what the others told before must not make it early.
        let words = [(4, 20), (2, 20), (0, 20)];
        assert_eq!(heard(&mut word, &words), [false, false, true]);
    }

    #[test]
    fn a_word_of_something_else_in_between_makes_no_release_unheard() {
        let mut word = Word::of(3, 2);
        // An undo, which one node alone told of.
        let words = [(0, 7), (0, 9), (1, 7)];
        assert_eq!(heard(&mut word, &words), [false, false, true]);
        // A node that is two releases ahead of the others.
        let words = [(0, 20), (0, 21), (1, 20), (1, 21), (2, 20), (2, 21)];
        let twice = [false, false, true, true, false, false];
        assert_eq!(heard(&mut word, &words), twice);
    }

    #[test]
    fn who_listens_anew_may_have_missed_a_release_and_uses_up_no_word() {
        let mut word = Word::of(3, 2);
        assert_eq!(
            heard(&mut word, &[(0, 0), (1, 0), (2, 0)]),
            [false, true, false]
        );
        // Early for the third, and again when there is a quorum.
        assert_eq!(heard(&mut word, &[(0, 7), (1, 7)]), [true, true]);
        // One told, another came back.
        assert_eq!(heard(&mut word, &[(0, 8), (1, 0)]), [false, true]);
    }
}
