//! Runs a model and says what it found.

use std::fmt::{Debug, Write};
use std::hash::Hash;
use std::time::Duration;

use everlock::clock::{Clock, SystemClock};
use stateright::{Checker, Model};

/// What a run has seen.
#[derive(Debug)]
pub struct Outcome {
    /// States, each counted once.
    pub states: usize,
    /// Steps from one state to another.
    pub steps: usize,
    /// The most steps from the start.
    pub depth: usize,
    /// How long it took.
    pub took: Duration,
    /// Whether there is no state that was not seen.
    pub exhausted: bool,
    /// The violated properties, each with the steps that lead there.
    pub violated: Vec<(&'static str, String)>,
    /// What ought to have happened sometime, and never did.
    pub never: Vec<&'static str>,
}

impl Outcome {
    /// One line.
    pub fn summary(&self) -> String {
        format!(
            "{} states, {} steps, depth {}, {:.1} s{}",
            self.states,
            self.steps,
            self.depth,
            self.took.as_secs_f64(),
            if self.exhausted { ", exhausted" } else { "" }
        )
    }

    /// Fails with the steps that lead to it if something was violated, or if
    /// something that must be possible never happened.
    ///
    /// # Panics
    ///
    /// Then.
    #[track_caller]
    pub fn expect_none(&self) {
        if let Some((property, path)) = self.violated.first() {
            panic!("{property}\n{path}");
        }
        assert!(self.never.is_empty(), "never seen: {:?}", self.never);
    }

    /// Fails unless this property is violated.
    ///
    /// # Panics
    ///
    /// Then.
    #[track_caller]
    pub fn expect(&self, property: &str) {
        let found: Vec<_> = self.violated.iter().map(|(name, _)| *name).collect();
        assert!(found.contains(&property), "{} {found:?}", self.summary());
    }
}

/// How far to go.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    /// Ends when this property is violated.
    pub until: Option<&'static str>,
    /// Ends after about so many steps.
    pub steps: Option<usize>,
    /// Ends after about this time.
    pub time: Option<Duration>,
}

/// Explores a model breadth first.
pub fn run<M>(model: M, bounds: Bounds) -> Outcome
where
    M: Model + Send + Sync + 'static,
    M::State: Debug + Hash + Send + Sync + Clone + PartialEq,
    M::Action: Debug + Clone + PartialEq + Send + Sync,
{
    use stateright::{Expectation, HasDiscoveries};
    let started = SystemClock.now();
    let properties = model.properties();
    let threads = std::thread::available_parallelism().map_or(1, Into::into);
    let mut builder = model.checker().threads(threads);
    if let Some(property) = bounds.until {
        builder = builder.finish_when(HasDiscoveries::AllOf([property].into()));
    }
    if let Some(steps) = bounds.steps {
        builder = builder.target_state_count(steps);
    }
    if let Some(time) = bounds.time {
        builder = builder.timeout(time);
    }
    let checker = builder.spawn_bfs().join();
    let took = SystemClock.now().saturating_since(started);
    let discoveries = checker.discoveries();
    let (mut violated, mut never) = (Vec::new(), Vec::new());
    for property in &properties {
        match (&property.expectation, discoveries.get(property.name)) {
            (Expectation::Sometimes, None) => never.push(property.name),
            (Expectation::Sometimes, Some(_)) | (_, None) => {}
            (_, Some(path)) => {
                let mut told = String::new();
                for (number, (state, action)) in path.clone().into_vec().iter().enumerate() {
                    let _ = writeln!(told, "state {number}:{state:?}");
                    if let Some(action) = action {
                        let _ = writeln!(told, "step {}: {action:?}", number + 1);
                    }
                }
                violated.push((property.name, told));
            }
        }
    }
    let found = |name| violated.iter().any(|(violated, _)| *violated == name);
    let cut_short = bounds.until.is_some_and(found)
        || bounds
            .steps
            .is_some_and(|steps| checker.state_count() >= steps)
        || bounds.time.is_some_and(|time| took >= time);
    Outcome {
        states: checker.unique_state_count(),
        steps: checker.state_count(),
        depth: checker.max_depth(),
        took,
        exhausted: !cut_short,
        violated,
        never,
    }
}
