//! The one list of settings, from which flags, variables, file keys and help come.

/// One setting of `everlock serve`.
#[derive(Debug)]
pub struct Setting {
    /// The flag, without its dashes; also the key in the file, unless `key` says otherwise.
    pub flag: &'static str,
    /// The variable.
    pub env: &'static str,
    /// The key in the file.
    pub key: &'static str,
    /// What stands for the value in the help; `None` for a switch.
    pub value: Option<&'static str>,
    /// Whether the flag may be repeated (comma separated in the variable, a list in the file).
    pub many: bool,
    /// The default; `None` where absence means something of its own.
    pub default: Option<&'static str>,
    /// What it does.
    pub help: &'static str,
}

const fn setting(
    flag: &'static str,
    env: &'static str,
    value: &'static str,
    default: &'static str,
    help: &'static str,
) -> Setting {
    Setting {
        flag,
        env,
        key: flag,
        value: Some(value),
        many: false,
        default: Some(default),
        help,
    }
}

const fn switch(flag: &'static str, env: &'static str, help: &'static str) -> Setting {
    Setting {
        flag,
        env,
        key: flag,
        value: None,
        many: false,
        default: None,
        help,
    }
}

const fn file(flag: &'static str, env: &'static str, help: &'static str) -> Setting {
    Setting {
        flag,
        env,
        key: flag,
        value: Some("FILE"),
        many: false,
        default: None,
        help,
    }
}

/// All settings, in the order of the help.
pub const SETTINGS: &[Setting] = &[
    Setting {
        flag: "listen",
        env: "EVERLOCK_LISTEN",
        key: "listen",
        value: Some("ADDR"),
        many: true,
        default: Some("127.0.0.1:8080"),
        help: "Where to listen: an address or unix:PATH; may be given several times",
    },
    // Its own user and group: who may hold locks is let in through the group.
    setting(
        "socket-mode",
        "EVERLOCK_SOCKET_MODE",
        "MODE",
        "660",
        "The permissions of sockets at unix:PATH, in octal digits",
    ),
    file(
        "tls-cert",
        "EVERLOCK_TLS_CERT",
        "PEM certificates to serve with, the server's own first: addresses then speak TLS alone. \
         Read again when it changes, and at SIGHUP; needs --tls-key",
    ),
    file(
        "tls-key",
        "EVERLOCK_TLS_KEY",
        "The PEM private key of --tls-cert",
    ),
    file(
        "tls-client-ca",
        "EVERLOCK_TLS_CLIENT_CA",
        "PEM certificates of the authorities of which clients must show a certificate",
    ),
    Setting {
        flag: "node",
        env: "EVERLOCK_NODES",
        key: "nodes",
        value: Some("URL"),
        many: true,
        default: None,
        help: "A Redis server that votes, redis://[user:password@]host:port/[db] or rediss:// for \
               TLS; give all nodes of the cluster",
    },
    file(
        "node-ca",
        "EVERLOCK_NODE_CA",
        "PEM certificates of the authorities that nodes at rediss:// URLs are trusted by, in place \
         of the public ones",
    ),
    file(
        "node-cert",
        "EVERLOCK_NODE_CERT",
        "A PEM certificate to show to nodes at rediss:// URLs; needs --node-key",
    ),
    file(
        "node-key",
        "EVERLOCK_NODE_KEY",
        "The PEM private key of --node-cert",
    ),
    switch(
        "allow-eviction",
        "EVERLOCK_ALLOW_EVICTION",
        "Use nodes whose maxmemory-policy may drop locks and floors, which are refused otherwise",
    ),
    switch(
        "dev",
        "EVERLOCK_DEV",
        "Serve locks from five nodes in this process's memory, on loopback: for development, \
         since nothing survives the process",
    ),
    switch(
        "allow-unauthenticated",
        "EVERLOCK_ALLOW_UNAUTHENTICATED",
        "Serve on an address that others can reach although nobody has to authenticate",
    ),
    setting(
        "auth",
        "EVERLOCK_AUTH",
        "MODE",
        "none",
        "Who may ask for locks: none (nobody has to authenticate), keys (who has an API key) or \
         licence (who has an API key, which they make themselves from a good licence)",
    ),
    file(
        "api-key-secret-file",
        "EVERLOCK_API_KEY_SECRET_FILE",
        "Secrets that sign API keys, a line each: the first signs, all verify; or give them in \
         EVERLOCK_API_KEY_SECRETS",
    ),
    file(
        "licence-file",
        "EVERLOCK_LICENCE_FILE",
        "Licences in a TOML file, read again when it changes",
    ),
    Setting {
        flag: "polar-organization",
        env: "EVERLOCK_POLAR_ORGANIZATION",
        key: "polar-organization",
        value: Some("ID"),
        many: false,
        default: None,
        help: "Licences come from Polar, where this is the organisation that sells them",
    },
    file(
        "polar-token-file",
        "EVERLOCK_POLAR_TOKEN_FILE",
        "An access token of the organisation, or give it in EVERLOCK_POLAR_TOKEN",
    ),
    setting(
        "polar-url",
        "EVERLOCK_POLAR_URL",
        "URL",
        "https://api.polar.sh/v1",
        "The base URL of Polar's API",
    ),
    file(
        "polar-ca",
        "EVERLOCK_POLAR_CA",
        "PEM certificates of the authorities that Polar is trusted by, in place of the public ones",
    ),
    setting(
        "licence-refresh",
        "EVERLOCK_LICENCE_REFRESH",
        "TIME",
        "60s",
        "How often a licence that is used is looked up again",
    ),
    // A working day and a night: whoever can mend it has been there by then.
    setting(
        "licence-grace",
        "EVERLOCK_LICENCE_GRACE",
        "TIME",
        "24h",
        "For how long a licence that was good counts as good while nobody can say",
    ),
    Setting {
        flag: "admin-listen",
        env: "EVERLOCK_ADMIN_LISTEN",
        key: "admin-listen",
        value: Some("ADDR"),
        many: false,
        default: None,
        help: "A second address, for operators: the console at /, /insights, /metrics, /config, \
               /version, /healthz, /readyz",
    },
    file(
        "admin-token-file",
        "EVERLOCK_ADMIN_TOKEN_FILE",
        "A token that the admin listener demands but for health, or give it in EVERLOCK_ADMIN_TOKEN",
    ),
    switch(
        "allow-unauthenticated-admin",
        "EVERLOCK_ALLOW_UNAUTHENTICATED_ADMIN",
        "Serve the admin listener without a token on an address that others can reach",
    ),
    switch(
        "allow-force-release",
        "EVERLOCK_ALLOW_FORCE_RELEASE",
        "Let operators end locks by force in the console of the admin listener",
    ),
    setting(
        "global-prefix",
        "EVERLOCK_GLOBAL_PREFIX",
        "TEXT",
        "Evermind",
        "The first segment of every key on the nodes: 1 to 64 of A-Z a-z 0-9 _ . -",
    ),
    Setting {
        flag: "max-lease",
        env: "EVERLOCK_MAX_LEASE",
        key: "max-lease",
        value: Some("TIME"),
        many: false,
        default: None,
        help: "The longest lease that may be asked for, if less than the cluster's own maximum",
    },
    // As long as the cluster's default maximum lease: longer than a proxy or balancer in
    // between would wait.
    setting(
        "max-wait",
        "EVERLOCK_MAX_WAIT",
        "TIME",
        "300s",
        "The longest wait that an acquire may ask for, all retries together",
    ),
    setting(
        "node-timeout",
        "EVERLOCK_NODE_TIMEOUT",
        "TIME",
        "300ms",
        "How long each node is given to answer",
    ),
    setting(
        "drift-factor",
        "EVERLOCK_DRIFT_FACTOR",
        "NUMBER",
        "0.01",
        "The share of a lease that is not relied on, since clocks differ",
    ),
    setting(
        "max-connections",
        "EVERLOCK_MAX_CONNECTIONS",
        "N",
        "10000",
        "Connections that are open at once; more wait to be accepted",
    ),
    setting(
        "max-waiters",
        "EVERLOCK_MAX_WAITERS",
        "N",
        "10000",
        "Acquires that are under way at once; more are answered 429",
    ),
    Setting {
        flag: "identity-rate",
        env: "EVERLOCK_IDENTITY_RATE",
        key: "identity-rate",
        value: Some("N"),
        many: false,
        default: None,
        help: "Requests of one identity in a second, on this proxy; more are answered 429",
    },
    Setting {
        flag: "identity-max-waiters",
        env: "EVERLOCK_IDENTITY_MAX_WAITERS",
        key: "identity-max-waiters",
        value: Some("N"),
        many: false,
        default: None,
        help: "Acquires of one identity that are under way at once, on this proxy; more are \
               answered 429",
    },
    // Room for a key of 512 bytes with every byte escaped, several times over.
    setting(
        "max-body",
        "EVERLOCK_MAX_BODY",
        "SIZE",
        "16KiB",
        "The size of a request's body",
    ),
    setting(
        "header-timeout",
        "EVERLOCK_HEADER_TIMEOUT",
        "TIME",
        "5s",
        "How long a request's header may take to arrive",
    ),
    // Longer than balancers keep theirs, so that none sends a request into a closing connection.
    setting(
        "idle-timeout",
        "EVERLOCK_IDLE_TIMEOUT",
        "TIME",
        "75s",
        "For how long a connection without requests is kept",
    ),
    setting(
        "body-timeout",
        "EVERLOCK_BODY_TIMEOUT",
        "TIME",
        "5s",
        "How long a request's body may take to arrive",
    ),
    // Of use only where a balancer asks /readyz, and it makes every restart as much longer.
    setting(
        "drain-delay",
        "EVERLOCK_DRAIN_DELAY",
        "TIME",
        "0s",
        "For how long to serve on after SIGTERM, while /readyz tells balancers to go elsewhere",
    ),
    // Container engines kill ten seconds after they asked for the end.
    setting(
        "drain-timeout",
        "EVERLOCK_DRAIN_TIMEOUT",
        "TIME",
        "8s",
        "How long an orderly end may take after SIGTERM",
    ),
    Setting {
        flag: "threads",
        env: "EVERLOCK_THREADS",
        key: "threads",
        value: Some("N"),
        many: false,
        default: None,
        help: "Threads that serve, as many as there are cores unless said otherwise",
    },
    setting(
        "log-format",
        "EVERLOCK_LOG_FORMAT",
        "FORMAT",
        "plain",
        "How logs are written: json or plain",
    ),
    setting(
        "log-level",
        "EVERLOCK_LOG_LEVEL",
        "LEVEL",
        "info",
        "What is logged: error, warn, info, debug or trace",
    ),
];

/// The variable that names the file; not a setting, since the file can't name itself.
pub(crate) const CONFIG_FLAG: &str = "config";
pub(crate) const CONFIG_ENV: &str = "EVERLOCK_CONFIG";
/// Secrets, which have no flag: other users of the machine can read flags.
pub(crate) const SECRETS_ENV: &str = "EVERLOCK_API_KEY_SECRETS";
pub(crate) const POLAR_TOKEN_ENV: &str = "EVERLOCK_POLAR_TOKEN";
pub(crate) const ADMIN_TOKEN_ENV: &str = "EVERLOCK_ADMIN_TOKEN";
/// What is no setting, and what other subcommands read.
pub(crate) const OTHER_VARIABLES: &[&str] = &[
    CONFIG_ENV,
    SECRETS_ENV,
    POLAR_TOKEN_ENV,
    ADMIN_TOKEN_ENV,
    "EVERLOCK_ADMIN_URL",
    "EVERLOCK_CLUSTER_MAX_LEASE",
    "EVERLOCK_CLUSTER_WAIT",
    "EVERLOCK_HEALTH_CA",
    "EVERLOCK_HEALTH_URL",
    "EVERLOCK_JSON",
];

/// The setting of that name.
pub(crate) fn named(flag: &str) -> &'static Setting {
    SETTINGS
        .iter()
        .find(|setting| setting.flag == flag)
        .expect("only settings of the table are asked for")
}
