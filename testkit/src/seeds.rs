//! The fuzzers' seeds, replayed by an ordinary test: each as it is, and mutated many times over.
//!
//! The mutations follow from a fixed seed, so that a test which failed fails again.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Longer inputs find nothing that shorter ones don't, and take longer.
const MAX_BYTES: usize = 4_096;
/// Bytes that mean something to one format or the other.
const TELLING: &[u8] = b"\"\\{}[]:,.-+0159eE~*$_\n\r\0 =#/@\xff\xc3";

/// Gives `check` every seed of `fuzz/seeds/TARGET`, and then `mutations` of them. Panics with the
/// input for which `check` did.
pub fn replay_seeds(target: &str, mutations: u32, check: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/seeds");
    let mut paths: Vec<_> = std::fs::read_dir(folder.join(target))
        .unwrap_or_else(|error| panic!("no seeds of {target}: {error}"))
        .map(|entry| entry.expect("a folder can be listed").path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{target} has no seeds");
    let seeds: Vec<_> = paths
        .iter()
        .map(|path| std::fs::read(path).expect("a seed can be read"))
        .collect();
    for (path, seed) in paths.iter().zip(&seeds) {
        run(&check, seed, &path.display().to_string());
    }
    let mut dice = Dice(0x5eed);
    for round in 0..mutations {
        let input = mutated(&seeds, &mut dice);
        run(&check, &input, &format!("mutation {round} of {target}"));
    }
}

fn run(check: impl Fn(&[u8]), input: &[u8], what: &str) {
    let held = catch_unwind(AssertUnwindSafe(|| check(input))).is_ok();
    assert!(held, "{what}: {}", input.escape_ascii());
}

fn mutated(seeds: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut input = seeds[dice.below(seeds.len())].clone();
    for _ in 0..=dice.below(4) {
        let at = dice.below(input.len() + 1);
        let end = (at + dice.below(16)).min(input.len());
        match dice.below(6) {
            0 if at < input.len() => input[at] ^= 1 << dice.below(8),
            1 => drop(input.drain(at..end)),
            2 => {
                let again = input[at..end].to_vec();
                input.splice(at..at, again);
            }
            3 => {
                let other = &seeds[dice.below(seeds.len())];
                let from = dice.below(other.len() + 1);
                let to = (from + dice.below(64)).min(other.len());
                input.splice(at..end, other[from..to].iter().copied());
            }
            4 => {
                let digits = dice.number().to_string();
                input.splice(at..end, digits.bytes());
            }
            _ => input.insert(at, TELLING[dice.below(TELLING.len())]),
        }
    }
    input.truncate(MAX_BYTES);
    input
}

/// Splitmix64: enough for this, and nothing to depend on.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, sides: usize) -> usize {
        let sides = u64::try_from(sides).expect("an index has 64 bits at most");
        usize::try_from(self.next() % sides).expect("it is below an index")
    }

    /// A number of any size, near a power of two as often as not.
    fn number(&mut self) -> i128 {
        let power = 1_i128 << self.below(66);
        power + i128::from(self.next() % 3) - 1
    }
}
