//! `everlock serve`: settings, nodes, listener, signals; then the server.
//!
//! Nothing is bound before the settings are read and the nodes judged.

use std::convert::Infallible;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;

use clap::ArgMatches;
use everlock::ConfigError;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{banner, failed, misconfigured, notify};
use crate::admin::{self, Desk};
use crate::config::{Listen, Nodes, Settings, Sources};
use crate::router::ROUTES;
use crate::server::{self, Listeners};
use crate::{App, Insights, Metrics, Traces, Watchers, nodes, telemetry};

/// What shells report of a process that a signal ended.
const SIGNAL_EXIT: i32 = 128;

pub(super) fn run(matches: &ArgMatches) -> ExitCode {
    let settings = match Settings::read(Sources::from_matches(matches)) {
        Ok(settings) => settings,
        Err(problems) => return misconfigured(&problems.0),
    };
    telemetry::start(settings.log_format, settings.log_level);
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    super::on_threads(settings.threads, serve(settings))
}

async fn serve(mut settings: Settings) -> ExitCode {
    let watchers = match watchers(&settings) {
        Ok(watchers) => watchers,
        Err(problem) => return failed(&problem),
    };
    let traces = watchers.traces.clone();
    let redlock = nodes::connect_watched(&settings, &watchers).await;
    let redlock = match redlock {
        Ok(redlock) => redlock,
        Err(error @ ConfigError::BadUrl { .. }) => return misconfigured(&[error.to_string()]),
        Err(error) => return failed(&error),
    };
    let gate = match nodes::gate(&settings, &redlock) {
        Ok(gate) => gate,
        Err(error) => return failed(&error),
    };
    for warning in redlock.warnings() {
        tracing::warn!("{warning}");
    }
    let operators = settings
        .admin
        .as_ref()
        .map_or(0, |_| admin::MAX_CONNECTIONS);
    settings.limits.max_connections =
        super::descriptors::allow(settings.limits.max_connections, operators);
    let tls = settings.tls.is_some();
    let listeners =
        Listeners::bind(&settings.listen, settings.socket_mode, settings.tls.take()).await;
    let listeners = match listeners {
        Ok(listeners) => listeners,
        Err(error) => return failed(&error),
    };
    let Ok((mut term, mut interrupt, hangup)) = signals(tls) else {
        return failed(&"signals can't be handled");
    };
    let prefix = &settings.global_prefix;
    let (count, limits) = (redlock.node_count(), settings.limits.clone());
    let app = App::watched(redlock, prefix, limits, gate, watchers);
    let admin = match open(&settings, &app) {
        Ok(admin) => admin,
        Err(problem) => return failed(&problem),
    };
    if matches!(settings.nodes, Nodes::Memory) {
        banner::print(&listeners.addresses(), tls);
    }
    for listen in listeners.addresses() {
        let tls = tls && matches!(listen, Listen::Tcp(_));
        tracing::info!(%listen, tls, nodes = count, "listening");
    }
    notify::ready();
    let ended = server::run(listeners, app, async move {
        let number = either(&mut term, &mut interrupt).await;
        tracing::info!(signal = number, "asked to end");
        notify::stopping();
        tokio::spawn(async move {
            let number = either(&mut term, &mut interrupt).await;
            tracing::warn!(signal = number, "asked to end again: ending at once");
            std::process::exit(SIGNAL_EXIT + number);
        });
    });
    let ended = tokio::select! {
        ended = ended => ended,
        never = note_hangups(hangup) => match never {},
    };
    if ended {
        tracing::info!("ended in order");
    }
    // The last: how the end went can be seen until it is over.
    let closing = async {
        if let Some(admin) = admin {
            admin.stop().await;
        }
    };
    tokio::join!(closing, traces.stop());
    ExitCode::SUCCESS
}

/// Without an admin listener nobody could read figures, nor look at what was recorded; without a
/// collector nobody takes traces.
fn watchers(settings: &Settings) -> Result<Watchers, String> {
    let (metrics, insights) = if settings.admin.is_some() {
        let routes = ROUTES.iter().map(|(path, _)| *path);
        (Metrics::on(routes), Insights::on())
    } else {
        (Metrics::off(), Insights::off())
    };
    let traces = match &settings.traces {
        None => Traces::off(),
        Some(wanted) => {
            let traces = Traces::start(wanted, &settings.nodes, &metrics)?;
            let collector = wanted.shown_endpoint();
            tracing::info!(collector, "requests are traced");
            traces
        }
    };
    Ok(Watchers {
        metrics,
        insights,
        traces,
    })
}

/// Opens the admin listener, if there is to be one.
fn open(settings: &Settings, app: &Arc<App>) -> Result<Option<admin::Running>, String> {
    let (Some(wanted), Some(desk)) = (&settings.admin, Desk::new(app, settings)) else {
        return Ok(None);
    };
    let listen = wanted.listen;
    let cant = |error| format!("can't listen on {listen}, for operators: {error}");
    let listener = std::net::TcpListener::bind(listen).map_err(cant)?;
    let bound = listener.local_addr().unwrap_or(listen);
    if wanted.token.is_none() && !listen.ip().to_canonical().is_loopback() {
        tracing::warn!(
            "whoever can reach the admin listener sees settings and the names of locks and \
             identities: it demands no token"
        );
    }
    tracing::info!(admin = %bound, "operators are served");
    admin::start(listener, desk).map(Some).map_err(cant)
}

/// What ends the process, and what is only noted: with TLS, the watch over the certificate's files
/// hears of SIGHUP by itself.
fn signals(tls: bool) -> io::Result<(Signal, Signal, Option<Signal>)> {
    let hangup = (!tls).then(|| signal(SignalKind::hangup())).transpose()?;
    let term = signal(SignalKind::terminate())?;
    Ok((term, signal(SignalKind::interrupt())?, hangup))
}

/// SIGHUP asks daemons to read their files anew. It must not end this one where there are none.
async fn note_hangups(hangup: Option<Signal>) -> Infallible {
    if let Some(mut hangup) = hangup {
        while hangup.recv().await.is_some() {
            tracing::info!("SIGHUP: there is no certificate to read anew; settings need a restart");
        }
    }
    std::future::pending().await
}

/// The number of the signal that came.
async fn either(term: &mut Signal, interrupt: &mut Signal) -> i32 {
    tokio::select! {
        _ = term.recv() => SignalKind::terminate().as_raw_value(),
        _ = interrupt.recv() => SignalKind::interrupt().as_raw_value(),
    }
}
