//! The heaviest of many things, in bounded memory (Space-Saving).
//!
//! Invariant: there are never more than `most` slots, and whatever came more often than one in
//! `most` times has one. Who takes over a slot inherits its count, so that newcomers have a chance;
//! how much was inherited is known, and what was kept of the one before it is gone.

use std::collections::HashMap;
use std::hash::Hash;

/// One of the heaviest.
#[derive(Debug)]
pub(super) struct Slot<K, V> {
    pub(super) key: K,
    /// How much it weighs, at most.
    count: u64,
    /// How much of that may be others'.
    error: u64,
    pub(super) value: V,
}

impl<K, V> Slot<K, V> {
    /// How much it weighs at least.
    pub(super) const fn weight(&self) -> u64 {
        self.count - self.error
    }
}

#[derive(Debug)]
pub(super) struct Sketch<K, V> {
    slots: Vec<Slot<K, V>>,
    places: HashMap<K, usize>,
    most: usize,
    /// How often a slot was taken over.
    replaced: u64,
}

impl<K: Hash + Eq + Clone, V> Sketch<K, V> {
    pub(super) fn new(most: usize) -> Self {
        Self {
            slots: Vec::new(),
            places: HashMap::new(),
            most: most.max(1),
            replaced: 0,
        }
    }

    /// Adds to the weight of this key, and gives what is kept of it: `fresh` if it is new.
    pub(super) fn touch<Q>(&mut self, key: &Q, weight: u64, fresh: impl FnOnce() -> V) -> &mut V
    where
        K: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let place = match self.places.get(key) {
            Some(place) => *place,
            None => self.admit(key.to_owned(), fresh()),
        };
        let slot = &mut self.slots[place];
        slot.count = slot.count.saturating_add(weight);
        &mut slot.value
    }

    /// What is kept of this key, if anything is.
    pub(super) fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let place = self.places.get(key)?;
        self.slots.get_mut(*place).map(|slot| &mut slot.value)
    }

    fn admit(&mut self, key: K, value: V) -> usize {
        if self.slots.len() < self.most {
            let (count, error) = (0, 0);
            self.places.insert(key.clone(), self.slots.len());
            self.slots.push(Slot {
                key,
                count,
                error,
                value,
            });
            return self.slots.len() - 1;
        }
        let lightest = self.slots.iter().enumerate();
        let lightest = lightest.min_by_key(|(_, slot)| slot.count);
        let place = lightest.map_or(0, |(place, _)| place);
        let slot = &mut self.slots[place];
        self.places.remove(&slot.key);
        self.places.insert(key.clone(), place);
        let error = slot.count;
        *slot = Slot {
            key,
            count: error,
            error,
            value,
        };
        self.replaced += 1;
        place
    }

    /// All that have a slot, the heaviest first.
    pub(super) fn heaviest(&self) -> Vec<&Slot<K, V>> {
        let mut all: Vec<_> = self.slots.iter().collect();
        all.sort_by_key(|slot| std::cmp::Reverse(slot.weight()));
        all
    }

    /// What is kept of all that have a slot, the heaviest first.
    pub(super) fn heaviest_mut(&mut self) -> Vec<(&K, &mut V)> {
        let mut all: Vec<_> = self.slots.iter_mut().collect();
        all.sort_by_key(|slot| std::cmp::Reverse(slot.weight()));
        let parts = all.into_iter().map(|slot| (&slot.key, &mut slot.value));
        parts.collect()
    }

    /// How often one was forgotten for the sake of another.
    pub(super) const fn replaced(&self) -> u64 {
        self.replaced
    }

    /// Halves all weights, so that what is heavy now outweighs what was.
    pub(super) fn fade(&mut self) {
        for slot in &mut self.slots {
            slot.count /= 2;
            slot.error /= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_very_many_the_heavy_ones_stay_and_no_more_than_there_is_room_for() {
        let mut sketch: Sketch<String, u64> = Sketch::new(20);
        for round in 0..5_000_u64 {
            for heavy in 0..5 {
                *sketch.touch(format!("heavy {heavy}").as_str(), 1, || 0) += 1;
            }
            sketch.touch(format!("light {round}").as_str(), 1, || 0);
        }
        let heaviest = sketch.heaviest();
        assert_eq!(heaviest.len(), 20);
        for slot in &heaviest[..5] {
            assert!(slot.key.starts_with("heavy"), "{slot:?}");
            assert!(slot.value == 5_000 && slot.weight() == 5_000, "{slot:?}");
        }
        assert!(sketch.places.len() == 20 && sketch.replaced() > 4_000);
    }

    #[test]
    fn a_weight_is_never_told_above_the_real_one() {
        let mut sketch: Sketch<String, ()> = Sketch::new(3);
        let mut real: HashMap<String, u64> = HashMap::new();
        for step in 0..2_000_u64 {
            let key = format!("{}", step * step % 13);
            sketch.touch(key.as_str(), 1, || ());
            *real.entry(key).or_default() += 1;
        }
        for slot in sketch.heaviest() {
            assert!(slot.weight() <= real[&slot.key]);
        }
    }

    #[test]
    fn what_was_heavy_once_gives_way_in_the_end() {
        let mut sketch: Sketch<String, ()> = Sketch::new(1);
        sketch.touch("old", 1 << 20, || ());
        for _ in 0..30 {
            sketch.fade();
        }
        sketch.touch("new", 5, || ());
        assert_eq!(sketch.heaviest()[0].key, "new");
        assert_eq!(sketch.heaviest()[0].weight(), 5);
    }
}
