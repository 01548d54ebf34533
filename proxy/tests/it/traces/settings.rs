//! What is traced and where it goes, as the variables say.

use everlock_testkit::{RedisCluster, TlsFiles};

use super::collector::{Collector, Manner, Span};
use super::{PROMPT, TRACE, is, traced, traceparent};
use crate::support::{Client, Proxy, run};

const DEV: [&str; 4] = ["serve", "--dev", "--listen", "127.0.0.1:0"];
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

/// Whether the program has a thread that sends traces.
fn has_sender(proxy: &Proxy) -> bool {
    let tasks = format!("/proc/{}/task", proxy.process.pid());
    let threads = std::fs::read_dir(tasks).unwrap();
    threads.flatten().any(|thread| {
        let name = std::fs::read_to_string(thread.path().join("comm"));
        name.is_ok_and(|name| name.starts_with("OpenTelemetry"))
    })
}

async fn ask(client: &Client, flags: Option<&str>) {
    let given = flags.map(traceparent);
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(given.as_deref().map(|given| ("traceparent", given)));
    let body = r#"{"key":"k","uuid":"u"}"#;
    let answer = client.send("POST", "/lock/acquire", &headers, body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn without_an_endpoint_or_with_tracing_off_nothing_is_built_and_nothing_sent() {
    let collector = Collector::start(Manner::Takes).await;
    let endpoint = collector.endpoint();
    for env in [
        &[("OTEL_EXPORTER_OTLP_HEADERS", "a=b"), PROMPT][..],
        // Without an endpoint nothing else is looked at.
        &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), (ENDPOINT, "")],
        &[(ENDPOINT, &endpoint), ("OTEL_SDK_DISABLED", "true"), PROMPT],
        &[
            (ENDPOINT, &endpoint),
            ("OTEL_TRACES_EXPORTER", "none"),
            PROMPT,
        ],
    ] {
        let proxy = Proxy::spawn(&DEV, env).await;
        ask(&proxy.client(), Some("01")).await;
        assert!(!has_sender(&proxy), "{env:?}");
    }
    let proxy = Proxy::spawn(&DEV, &[(ENDPOINT, &endpoint), PROMPT]).await;
    assert!(has_sender(&proxy));
    assert_eq!(collector.connections(), 0);
    ask(&proxy.client(), None).await;
    // Nodes in memory are no database.
    let call = collector.one(is("acquire")).await;
    assert_eq!(call.get("db.system.name"), "");
    assert!(call.get("everlock.node").starts_with("memory"), "{call:?}");
}

#[tokio::test]
async fn the_client_decides_about_its_own_traces_and_the_sampler_about_the_others() {
    let nodes = RedisCluster::start(1);
    let collector = Collector::start(Manner::Takes).await;
    let proxy = traced(&nodes, &collector, &[], &[]).await;
    let client = proxy.client();
    ask(&client, Some("00")).await;
    client.get("/healthz").await;
    ask(&client, None).await;
    let own = collector.one(is("POST /lock/acquire")).await;
    assert!(own.parent.is_empty() && own.trace != TRACE, "{own:?}");
    assert_eq!(own.trace.len(), 32);
    let given = traceparent("01");
    client
        .send("GET", "/healthz", &[("traceparent", &given)], "")
        .await;
    let probe = collector.one(is("GET /healthz")).await;
    assert_eq!(
        probe.trace, TRACE,
        "a probe of a trace that is sampled is a part of it"
    );
    assert_eq!(
        collector
            .spans()
            .iter()
            .filter(|span| span.trace == TRACE)
            .count(),
        1
    );

    for (sampler, ratio, (own, given, refused)) in [
        ("always_on", "", (true, true, true)),
        ("parentbased_always_off", "", (false, true, false)),
        ("traceidratio", "0", (false, false, false)),
        ("parentbased_traceidratio", "1", (true, true, false)),
    ] {
        let collector = Collector::start(Manner::Takes).await;
        let env = [
            ("OTEL_TRACES_SAMPLER", sampler),
            ("OTEL_TRACES_SAMPLER_ARG", ratio),
        ];
        let mut proxy = traced(&nodes, &collector, &[], &env).await;
        for flags in [None, Some("01"), Some("00")] {
            ask(&proxy.client(), flags).await;
        }
        proxy.process.signal(everlock_testkit::Signal::TERM);
        assert!(
            proxy
                .process
                .wait_exit(crate::support::SOON)
                .await
                .success()
        );
        let count = |wanted: &dyn Fn(&Span) -> bool| {
            let spans = collector.spans();
            spans
                .iter()
                .filter(|span| is("POST /lock/acquire")(span) && wanted(span))
                .count()
        };
        assert_eq!(
            count(&|span| span.trace != TRACE),
            usize::from(own),
            "{sampler}"
        );
        let of_client = usize::from(given) + usize::from(refused);
        assert_eq!(count(&|span| span.trace == TRACE), of_client, "{sampler}");
    }
}

#[tokio::test]
async fn the_resource_and_the_url_are_what_the_variables_say_also_over_tls_and_compressed() {
    let nodes = RedisCluster::start(1);
    let files = TlsFiles::make();
    let collector = Collector::over_tls(&files).await;
    let own = format!("{}/elsewhere?a=b", collector.endpoint());
    let ca = files.ca();
    let env = [
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", own.as_str()),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", ca.to_str().unwrap()),
        ("OTEL_SERVICE_NAME", "locks"),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "service.name=x,service.instance.id=one,team=core",
        ),
    ];
    let proxy = traced(&nodes, &collector, &[], &env).await;
    ask(&proxy.client(), None).await;
    let span = collector.one(is("POST /lock/acquire")).await;
    assert_eq!(span.resource["service.name"], "locks");
    assert_eq!(span.resource["service.instance.id"], "one");
    assert_eq!(span.resource["team"], "core");
    assert_eq!(collector.heads()[0].0, "/elsewhere?a=b");

    let collector = Collector::start(Manner::Takes).await;
    let gzip = ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip");
    let proxy = traced(&nodes, &collector, &[], &[gzip]).await;
    ask(&proxy.client(), None).await;
    let came = everlock_testkit::eventually(crate::support::SOON, || async {
        !collector.heads().is_empty()
    });
    assert!(came.await);
    assert_eq!(collector.heads()[0].1["content-encoding"], "gzip");
}

#[tokio::test]
async fn what_is_wrong_is_said_at_the_start_with_the_variable_and_without_its_secrets() {
    let good = (ENDPOINT, "http://127.0.0.1:4318");
    for (env, said) in [
        ((ENDPOINT, "canary"), "is no URL"),
        ((ENDPOINT, "ftp://canary.example"), "is no URL"),
        (
            (ENDPOINT, "http://canary:canary@127.0.0.1"),
            "a user or a password",
        ),
        (("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), "http/protobuf"),
        (
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            "http/protobuf",
        ),
        (
            ("OTEL_EXPORTER_OTLP_HEADERS", "canary"),
            "is no list of headers",
        ),
        (("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"), "milliseconds"),
        (("OTEL_EXPORTER_OTLP_COMPRESSION", "zip"), "gzip"),
        (
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere"),
            "can't be read",
        ),
        (("OTEL_TRACES_EXPORTER", "zipkin"), "otlp or none"),
        (("OTEL_TRACES_SAMPLER", "jaeger_remote"), "always_on"),
        (("OTEL_TRACES_SAMPLER_ARG", "2"), "from 0 to 1"),
        (("OTEL_BSP_MAX_QUEUE_SIZE", "0"), "from 1 to 1000000"),
        (("OTEL_BSP_MAX_QUEUE_SIZE", "many"), "from 1 to 1000000"),
        (("OTEL_BSP_SCHEDULE_DELAY", "5s"), "from 1 to 1000000"),
        (("OTEL_BSP_EXPORT_TIMEOUT", "-1"), "from 1 to 1000000"),
        (("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "0"), "from 1 to 1000000"),
        (("OTEL_SPAN_LINK_COUNT_LIMIT", "none"), "from 0 to 1000000"),
        (
            ("OTEL_RESOURCE_ATTRIBUTES", "team=core,canary"),
            "is no list of attributes",
        ),
    ] {
        let (status, output) = run(&DEV, &[good, env]).await;
        assert_eq!(status.code(), Some(2), "{env:?}: {output}");
        assert!(output.contains(env.0) && output.contains(said), "{output}");
        assert!(!output.contains("canary"), "{output}");
    }
}
