# The proxy in an image that holds one file that runs, and the licences: no shell, no libraries, no
# package manager. Who has a registry builds all of it from here:
#
#   docker build -t everlock:local .
#
# scripts/image makes the same from a binary that cargo built on this machine, and needs no registry.

FROM rust:1-slim-bookworm AS builder
# Static against musl: some of what the proxy rests on is C. The packages' versions are those of the
# Debian release that is named above.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends musl-tools \
    && rm -rf /var/lib/apt/lists/* \
    && rustup target add "$(uname -m)-unknown-linux-musl"
WORKDIR /src
COPY . .
ARG EVERLOCK_REVISION
RUN cargo build --release --locked --target "$(uname -m)-unknown-linux-musl" -p everlock-proxy \
    && install -D "target/$(uname -m)-unknown-linux-musl/release/everlock" /out/everlock

# What scripts/image puts a folder in the place of.
FROM scratch AS binary
COPY --from=builder /out/everlock /everlock

FROM scratch
COPY --from=binary /everlock /usr/local/bin/everlock
COPY LICENSE-APACHE LICENSE-MIT /usr/share/licenses/everlock/
# A number, as there is no /etc/passwd; deploy/kubernetes names the same.
USER 65532:65532
EXPOSE 8080
# Alive, not ready: to restart a proxy doesn't bring back a Redis node.
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s \
    CMD ["/usr/local/bin/everlock", "health", "--url", "http://127.0.0.1:8080/healthz"]
ENTRYPOINT ["/usr/local/bin/everlock"]
# Serving on all addresses demands API keys, or --allow-unauthenticated in so many words.
CMD ["serve", "--listen", "0.0.0.0:8080"]
