//! Hears of locks that are let go on a server, over a connection of its own.
//!
//! `Idle => Listening => Idle`: one task, one connection, and only while
//! somebody waits for a lock. Each time the connection is made anew, whoever
//! listens is told, since a message may have been missed.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::StreamExt;
use redis::aio::{PubSubSink, PubSubStream};
use redis::{Client, Msg};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::calls::CHANNEL;
use super::faults;
use crate::core::token::FencingToken;
use crate::core::types::Resource;
use crate::node::{Ear, Ears, Listening};

/// A connection that nobody needs any more is kept for so long.
const LINGER: Duration = Duration::from_secs(10);
/// The server answers a subscription within this.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// The pause before connecting again, which is longer after each failure.
const SHORTEST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Listens at one server.
pub(super) struct Listener {
    client: Client,
    ears: Arc<Ears>,
    changed: Notify,
    running: AtomicBool,
    runtime: Handle,
}

/// Why a connection is not used any longer.
enum End {
    Broken,
    NobodyListens,
}

impl Listener {
    pub(super) fn new(client: Client) -> Arc<Self> {
        Arc::new(Self {
            client,
            ears: Arc::default(),
            changed: Notify::new(),
            running: AtomicBool::new(false),
            runtime: Handle::current(),
        })
    }

    pub(super) fn listen(self: &Arc<Self>, resource: &Resource, ear: Ear) -> Listening {
        let changed = Arc::downgrade(self);
        let listening = self.ears.add(resource, ear, move || {
            if let Some(listener) = Weak::upgrade(&changed) {
                listener.changed.notify_one();
            }
        });
        self.changed.notify_one();
        if !self.running.swap(true, Ordering::AcqRel) {
            self.runtime.spawn(Arc::clone(self).run());
        }
        listening
    }

    async fn run(self: Arc<Self>) {
        let mut pause = SHORTEST_PAUSE;
        loop {
            let connected = tokio::time::timeout(ANSWER_TIME, self.client.get_async_pubsub());
            if let Ok(Ok(connection)) = connected.await {
                let (sink, stream) = connection.split();
                if matches!(self.serve(sink, stream, &mut pause).await, End::Broken) {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    continue;
                }
            } else if !self.ears.wanted().is_empty() {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
            // Listening => Idle
            self.running.store(false, Ordering::Release);
            // Somebody came in the moment between.
            let late = !self.ears.wanted().is_empty();
            if !late || self.running.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    }

    async fn serve(
        &self,
        mut sink: PubSubSink,
        mut stream: PubSubStream,
        pause: &mut Duration,
    ) -> End {
        let mut heard: HashMap<String, Resource> = HashMap::new();
        loop {
            if self.follow(&mut sink, &mut heard).await.is_none() {
                return End::Broken;
            }
            *pause = SHORTEST_PAUSE;
            let linger = async {
                if heard.is_empty() {
                    tokio::time::sleep(LINGER).await;
                } else {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                message = stream.next() => match message {
                    Some(message) => self.tell(&heard, &message),
                    None => return End::Broken,
                },
                () = self.changed.notified() => {}
                () = linger => return End::NobodyListens,
            }
        }
    }

    /// Subscribes to what is wanted, and to nothing else. `None` if the server did not answer.
    async fn follow(
        &self,
        sink: &mut PubSubSink,
        heard: &mut HashMap<String, Resource>,
    ) -> Option<()> {
        let wanted: HashSet<_> = self.ears.wanted().into_iter().collect();
        let gone: Vec<_> = heard
            .iter()
            .filter(|(_, resource)| !wanted.contains(*resource))
            .map(|(channel, _)| channel.clone())
            .collect();
        for channel in &gone {
            heard.remove(channel);
        }
        let new: Vec<_> = wanted
            .into_iter()
            .map(|resource| (format!("{CHANNEL}{}", resource.as_str()), resource))
            .filter(|(channel, _)| !heard.contains_key(channel))
            .collect();
        let channels: Vec<_> = new.iter().map(|(channel, _)| channel).collect();
        let asked = async {
            if !gone.is_empty() && !answered(sink.unsubscribe(&gone).await)? {
                return None;
            }
            Some(channels.is_empty() || answered(sink.subscribe(&channels).await)?)
        };
        let all = tokio::time::timeout(ANSWER_TIME, asked).await.ok()??;
        for (channel, resource) in new {
            // A user may not hear one of them: that must not deafen the others.
            let asked = async { Some(all || answered(sink.subscribe(&channel).await)?) };
            if tokio::time::timeout(ANSWER_TIME, asked).await.ok()?? {
                // It may have been let go before it could be heard.
                self.ears.tell(&resource, None);
            }
            // What is refused is not asked for again on this connection.
            heard.insert(channel, resource);
        }
        Some(())
    }

    fn tell(&self, heard: &HashMap<String, Resource>, message: &Msg) {
        if let Some(resource) = heard.get(message.get_channel_name()) {
            let token = message.get_payload::<String>().ok();
            let token = token.and_then(|token| token.parse().ok());
            self.ears.tell(resource, token.map(FencingToken::new));
        }
    }
}

/// Whether the server did as it was asked, or refused; `None` if it is gone.
fn answered(result: redis::RedisResult<()>) -> Option<bool> {
    match result {
        Ok(()) => Some(true),
        Err(error) if faults::breaks_connection(&error) => None,
        Err(_) => Some(false),
    }
}
