//! The console: one page for people who look after this replica, and what feeds it.
//!
//! Invariant: nothing is computed while nobody looks, however many look it is computed once, and
//! they are bounded. What it shows is this replica's; the nodes are asked one key at a time and
//! never searched. It changes nothing, unless the operator allowed locks to be ended by force.

mod assets;
mod events;
mod force;
mod inspect;
mod state;

use std::sync::Arc;

use everlock::Resource;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};

pub(super) use self::assets::{ASSETS, Asset};
use self::events::Seats;
use self::state::State;
use super::{Body, guard};
use crate::answer::Answer;
use crate::api::{Fields, MAX_KEY_BYTES};
use crate::app::App;
use crate::body;
use crate::config::{AdminSettings, ShownSetting};
use crate::identity::{Identity, MAX_IDENTITY_BYTES};
use crate::problem::{Kind, Problem};

/// The console of one proxy.
pub(super) struct Console {
    app: Arc<App>,
    admin: AdminSettings,
    state: Arc<State>,
    seats: Seats,
}

impl Console {
    pub(super) fn new(
        app: &Arc<App>,
        admin: &AdminSettings,
        settings: &[ShownSetting],
        file: Option<&str>,
    ) -> Self {
        Self {
            state: Arc::new(State::new(app, admin, settings, file)),
            app: Arc::clone(app),
            admin: admin.clone(),
            seats: Seats::default(),
        }
    }

    /// Snapshots, for as long as somebody listens.
    pub(super) fn events(&self) -> Result<Response<Body>, Problem> {
        events::answer(&self.seats, Arc::clone(&self.state))
    }

    /// What was seen of the locks, with the advice.
    pub(super) fn insights(&self) -> Answer {
        let redlock = &self.app.redlock;
        let report = self.app.insights.report(&|lease| redlock.drift_of(lease));
        Answer::json(StatusCode::OK, &report)
    }

    /// Who holds one lock.
    pub(super) async fn inspect(
        &self,
        parts: &Parts,
        body: &mut Incoming,
    ) -> Result<Answer, Problem> {
        guard::check_own_page(&self.admin, &parts.headers)?;
        let fields = self.fields(parts, body).await?;
        let resource = self.subject(&fields)?.2;
        let seen = inspect::look(&self.app.redlock, &resource).await;
        Ok(Answer::json(StatusCode::OK, &seen.view()))
    }

    /// Ends one lock, if that is allowed.
    pub(super) async fn force(
        &self,
        parts: &Parts,
        body: &mut Incoming,
    ) -> Result<Answer, Problem> {
        guard::check_own_page(&self.admin, &parts.headers)?;
        if !self.admin.allow_force_release {
            let message = "locks may not be ended by force here: --allow-force-release allows it";
            return Err(Problem::new(Kind::Forbidden, message));
        }
        let fields = self.fields(parts, body).await?;
        let (identity, key, resource) = self.subject(&fields)?;
        force::release(&self.app, &fields, &identity, &key, &resource).await
    }

    async fn fields(&self, parts: &Parts, body: &mut Incoming) -> Result<Fields, Problem> {
        body::check_type(&parts.headers)?;
        Fields::parse(&body::read(body, &self.app.limits).await?)
    }

    /// Which lock is meant.
    fn subject(&self, fields: &Fields) -> Result<(Identity, String, Resource), Problem> {
        let identity = fields.text("identity", MAX_IDENTITY_BYTES)?;
        let identity = identity.map_or_else(|| Some(Identity::anonymous()), Identity::new);
        let identity = identity
            .ok_or_else(|| Problem::bad_request("identity takes 1 to 64 of A-Z a-z 0-9 _ -"))?;
        let key = fields.required_text("key", MAX_KEY_BYTES)?;
        let resource = self.app.resource(&identity, key);
        Ok((identity, key.to_owned(), resource))
    }
}
