//! Figures on the nodes that only grow: what was used of each licence.
//!
//! Each process has a field of its own for each licence and period, and is the only one that counts
//! in it; the sum of the fields is what was used. A figure is written to all nodes and kept by a
//! majority; whoever reads takes the highest figure of each field that any node tells, and at the
//! next opportunity tells all nodes those that one of them lacked. So figures can be written twice,
//! late or in any order, and nodes that were away or forgot are taught by whoever writes next.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use everlock::majority;
use redis::Script;
use tokio::sync::mpsc;

use super::keeper::{Away, Keeper};

/// Longer than a month, so that a month's figures outlive it.
const MONTH_LIFE: Duration = Duration::from_hours(24 * 70);
/// Once a majority has answered, the other nodes are waited for this long: for a healthy one that is
/// plenty, and one that hangs costs no more.
const GRACE: Duration = Duration::from_millis(250);
/// Entries of the index that are read from one node at once.
const INDEX_PAGE: usize = 1_000;

static MERGE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/usage.lua")));
static REPORTED: LazyLock<Script> =
    LazyLock::new(|| Script::new(include_str!("scripts/reported.lua")));
static INDEX: LazyLock<Script> =
    LazyLock::new(|| Script::new("return redis.call('SRANDMEMBER', KEYS[1], ARGV[1])"));

/// Figures by field.
pub(super) type Figures = BTreeMap<String, u64>;

/// What there is once nodes were told something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Merged {
    /// The highest figures that were known or told.
    pub(super) figures: Figures,
    /// Those of them that one of the nodes did not have.
    pub(super) lacking: Figures,
}

/// Which figures: of one licence, in one period, for one customer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Account {
    pub(super) licence: String,
    pub(super) period: String,
    pub(super) customer: String,
}

/// Whom to wait for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// A majority has it.
    Majority,
    /// A majority has it, and the others had [`GRACE`] to answer: as far as can be known, nobody
    /// knows more.
    All,
}

/// The figures on all nodes; without nodes, nothing is kept.
pub(super) struct Ledger {
    prefix: String,
    keepers: Vec<Arc<Keeper>>,
}

impl Account {
    /// An account by its entry in the index.
    fn read(entry: &str) -> Option<Self> {
        let mut parts = entry.splitn(3, ':').map(ToOwned::to_owned);
        Some(Self {
            licence: parts.next()?,
            period: parts.next()?,
            customer: parts.next()?,
        })
    }

    fn entry(&self) -> String {
        format!("{}:{}:{}", self.licence, self.period, self.customer)
    }
}

impl Ledger {
    pub(super) fn new(prefix: &str, keepers: Vec<Arc<Keeper>>) -> Self {
        let prefix = prefix.to_owned();
        Self { prefix, keepers }
    }

    /// Tells the nodes these figures, hears theirs, and adds them to those known. `grown` notes that
    /// there is something to report. Dropping the future leaves the figures told to some nodes, or
    /// all.
    pub(super) async fn merge(
        &self,
        account: &Account,
        told: &Figures,
        known: Figures,
        grown: bool,
        wait: Wait,
    ) -> Result<Merged, Away> {
        let life = if account.period == super::usage::FOR_EVER {
            0
        } else {
            MONTH_LIFE.as_millis()
        };
        let mut call = MERGE.prepare_invoke();
        call.key(self.key(account)).key(self.index());
        call.arg(if grown {
            account.entry()
        } else {
            String::new()
        });
        call.arg(life.to_string());
        for (field, figure) in told {
            call.arg(field).arg(*figure);
        }
        let replies: Vec<HashMap<String, u64>> = self.ask(call, wait).await?;
        let mut figures = known;
        for (field, figure) in told.iter().chain(replies.iter().flatten()) {
            let known = figures.entry(field.clone()).or_default();
            *known = (*known).max(*figure);
        }
        let is_lacking = |(field, figure): &(&String, &u64)| {
            let mut nodes = replies.iter().map(|reply| reply.get(*field));
            nodes.any(|there| there < Some(*figure))
        };
        let lacking = figures.iter().filter(is_lacking);
        let lacking = lacking
            .map(|(field, figure)| (field.clone(), *figure))
            .collect();
        Ok(Merged { figures, lacking })
    }

    /// Notes up to where an account was reported.
    pub(super) async fn reported(&self, account: &Account, up_to: u64) -> Result<(), Away> {
        let mut call = REPORTED.prepare_invoke();
        call.key(self.key(account)).key(self.index());
        call.arg(account.entry()).arg(up_to);
        let _: Vec<u64> = self.ask(call, Wait::All).await?;
        Ok(())
    }

    /// Some accounts in which there may be something to report.
    pub(super) async fn unreported(&self) -> Result<Vec<Account>, Away> {
        let mut call = INDEX.prepare_invoke();
        call.key(self.index()).arg(INDEX_PAGE);
        let entries: Vec<Vec<String>> = self.ask(call, Wait::All).await?;
        let entries: HashSet<_> = entries.into_iter().flatten().collect();
        Ok(entries
            .iter()
            .filter_map(|entry| Account::read(entry))
            .collect())
    }

    fn key(&self, account: &Account) -> String {
        format!(
            "{}~usage:{}:{}",
            self.prefix, account.licence, account.period
        )
    }

    fn index(&self) -> String {
        format!("{}~unreported", self.prefix)
    }

    /// Asks all nodes; the replies of a majority at least.
    async fn ask<T: redis::FromRedisValue + Send + 'static>(
        &self,
        call: redis::ScriptInvocation<'static>,
        wait: Wait,
    ) -> Result<Vec<T>, Away> {
        if self.keepers.is_empty() {
            return Ok(Vec::new());
        }
        let call = Arc::new(call);
        let (told, mut heard) = mpsc::channel(self.keepers.len());
        for keeper in &self.keepers {
            let (keeper, call, told) = (Arc::clone(keeper), Arc::clone(&call), told.clone());
            // Each ends by the keeper's own deadlines, whatever becomes of the caller: a few
            // seconds, and at once where the node is known to be away.
            tokio::spawn(async move {
                let asked = async { keeper.call(&keeper.link().await?, &call).await };
                let _ = told.send(asked.await).await;
            });
        }
        drop(told);
        let majority = majority(self.keepers.len());
        let mut replies = Vec::new();
        while replies.len() < majority
            && let Some(reply) = heard.recv().await
        {
            replies.extend(reply.ok());
        }
        if wait == Wait::All {
            let others = async {
                while let Some(reply) = heard.recv().await {
                    replies.extend(reply.ok());
                }
            };
            let _ = tokio::time::timeout(GRACE, others).await;
        }
        if replies.len() >= majority {
            Ok(replies)
        } else {
            Err(Away)
        }
    }
}

#[cfg(test)]
mod tests {
    use everlock::NodeTls;
    use everlock_testkit::{RedisCluster, SETTLED, eventually};

    use super::*;

    fn account(number: usize) -> Account {
        Account {
            licence: format!("licence-{number}"),
            period: "total".to_owned(),
            customer: "customer".to_owned(),
        }
    }

    #[tokio::test]
    async fn a_node_that_hangs_leaves_no_questions_behind_and_holds_nobody_up() {
        const ACCOUNTS: usize = 100;
        let nodes = RedisCluster::start(3);
        let keepers = Keeper::all(&nodes.urls(), &NodeTls::default()).unwrap();
        let ledger = Ledger::new("test", keepers);
        let figures = Figures::from([("c:1".to_owned(), 1)]);
        let merged = async |number, wait| {
            let (account, known) = (account(number), Figures::new());
            let merged = ledger.merge(&account, &figures, known, true, wait).await;
            assert_eq!(merged.unwrap().figures, figures);
        };
        merged(0, Wait::All).await;
        let tasks = tokio::runtime::Handle::current().metrics();
        let before = tasks.num_alive_tasks();
        nodes.pause(0);
        // The first question finds out, and loses the connection.
        for number in 0..=ACCOUNTS {
            merged(number, Wait::Majority).await;
            let over = async || number > 0 || tasks.num_alive_tasks() < before;
            assert!(eventually(SETTLED, over).await);
        }
        let over = async || tasks.num_alive_tasks() < before;
        assert!(
            eventually(SETTLED, over).await,
            "{} tasks, {before} before",
            tasks.num_alive_tasks()
        );
        // Whoever waits for all nodes does not wait for this one each time.
        let all = async {
            for number in 0..ACCOUNTS {
                merged(number, Wait::All).await;
            }
        };
        let in_time = tokio::time::timeout(2 * SETTLED, all).await;
        assert!(in_time.is_ok(), "it waited for a node that hangs");
        nodes.resume(0);
        let back = eventually(SETTLED, async || {
            merged(2 * ACCOUNTS, Wait::All).await;
            nodes[0].command(&["HGET", "test~usage:licence-200:total", "c:1"]) == "1"
        });
        assert!(back.await, "the node is asked again");
    }
}
