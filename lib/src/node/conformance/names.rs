//! Rules of names: any text within the bounds, told back as it was given.

use super::{Bench, LEASE, Make};
use crate::core::command::Command;
use crate::core::quorum::Vote;
use crate::core::types::{MAX_OWNER_BYTES, MAX_RESOURCE_BYTES, OwnerId, Resource};

/// What has broken protocols, scripts and log lines before.
const HOSTILE: [&str; 22] = [
    "\0",
    "a\0b",
    "line\nbreak",
    "\r\n$3\r\nDEL\r\n",
    "'quoted'",
    "\"double\"",
    "back\\slash",
    "{braces}",
    "{",
    "[1]",
    "with space",
    " ",
    ":",
    "::",
    "a:b:c",
    "a,b:1,c:2",
    "%d%s%(",
    "*",
    "-",
    "0000000000000001:5",
    "🔒🗝",
    "ä𝄞\u{202e}\u{feff}",
];

struct Named<'a> {
    bench: &'a Bench,
    resource: Resource,
    owner: OwnerId,
}

impl Named<'_> {
    async fn acquire(&self, call: u64, step: u64) -> Vote {
        let command = Command::Acquire {
            resource: self.resource.clone(),
            owner: self.owner.clone(),
            lease: LEASE,
            call: super::attempt(call, step),
            token: self.bench.token(step),
            reserve: 0,
        };
        self.bench.ask(command).await
    }

    async fn undo(&self, call: u64, step: u64) -> Vote {
        let command = Command::Undo {
            resource: self.resource.clone(),
            owner: self.owner.clone(),
            call: super::attempt(call, step),
            token: self.bench.token(step),
            aloud: true,
        };
        self.bench.ask(command).await
    }

    async fn told(&self) -> Vote {
        let resource = self.resource.clone();
        self.bench.ask(Command::Inspect { resource }).await
    }

    async fn release(&self, step: u64) -> Vote {
        let command = Command::Release {
            resource: self.resource.clone(),
            owner: self.owner.clone(),
            token: self.bench.token(step),
        };
        self.bench.ask(command).await
    }
}

async fn goes_round(bench: &Bench, resource: &str, owner: &str, step: u64) {
    let named = Named {
        bench,
        resource: Resource::new(resource).expect("the name is valid"),
        owner: OwnerId::new(owner).expect("the id is valid"),
    };
    let what = format!("{resource:?} by {owner:?}");
    assert_eq!(named.acquire(1, step).await, Vote::Granted, "{what}");
    let Vote::Holder {
        owner: told, token, ..
    } = named.told().await
    else {
        panic!("{what} is held")
    };
    assert_eq!(&*told, owner, "{what}");
    assert_eq!(token, Some(bench.token(step)), "{what}");
    let again = named.acquire(2, step + 1).await;
    assert!(matches!(again, Vote::Again { .. }), "{what}: {again:?}");
}

pub async fn hostile_names_are_kept_apart_and_told_back_unchanged(make: Make<'_>) {
    let bench = Bench::open(make).await;
    for name in HOSTILE {
        goes_round(&bench, name, name, 1).await;
    }
    // All are held at once, each by its own owner.
    for name in HOSTILE {
        let named = Named {
            bench: &bench,
            resource: Resource::new(name).expect("the name is valid"),
            owner: OwnerId::new(name).expect("the id is valid"),
        };
        let token = Some(bench.token(1));
        assert_eq!(named.release(1).await, Vote::Released { token }, "{name:?}");
        assert_eq!(named.told().await, Vote::Absent, "{name:?}");
    }
}

pub async fn the_longest_names_fit(make: Make<'_>) {
    let bench = Bench::open(make).await;
    let resource = format!("{}~", "🔒:".repeat(MAX_RESOURCE_BYTES / 5));
    let resource = format!(
        "{resource}{}",
        "x".repeat(MAX_RESOURCE_BYTES - resource.len())
    );
    assert_eq!(resource.len(), MAX_RESOURCE_BYTES);
    let owner = "é".repeat(MAX_OWNER_BYTES / 2);
    goes_round(&bench, &resource, &owner, 1).await;
}

pub async fn owners_of_any_shape_share_and_undo(make: Make<'_>) {
    let bench = Bench::open(make).await;
    let shapes = [
        " ", "a b", "a:1,b:2", "~", "*", "- -", "9 9 9", "\n", "%1 :",
    ];
    for (number, shape) in (0u64..).zip(shapes) {
        let step = 10 * number;
        let named = Named {
            bench: &bench,
            resource: Resource::new("shapes").expect("the name is valid"),
            owner: OwnerId::new(shape).expect("the id is valid"),
        };
        assert_eq!(named.acquire(1, step + 1).await, Vote::Granted, "{shape:?}");
        let again = named.acquire(2, step + 2).await;
        assert!(matches!(again, Vote::Again { .. }), "{shape:?}: {again:?}");
        let kept = Vote::Undone { deleted: false };
        assert_eq!(named.undo(1, step + 1).await, kept, "{shape:?}");
        let deleted = Vote::Undone { deleted: true };
        assert_eq!(named.undo(2, step + 2).await, deleted, "{shape:?}");
        assert_eq!(named.told().await, Vote::Absent, "{shape:?}");
    }
}
