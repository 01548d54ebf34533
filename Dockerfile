# The proxy in an image without a shell, run by a user without rights.

# Both stages are Debian 12: the binary finds the C library that it was linked with.
FROM rust:1-slim-bookworm AS builder
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p everlock-proxy

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=builder /src/target/release/everlock /usr/local/bin/everlock
EXPOSE 8080
# Alive, not ready: to restart a proxy doesn't bring back a Redis node.
HEALTHCHECK --interval=5s --timeout=3s --start-period=10s \
    CMD ["/usr/local/bin/everlock", "health", "--url", "http://127.0.0.1:8080/healthz"]
ENTRYPOINT ["/usr/local/bin/everlock"]
# Serving on all addresses demands API keys, or --allow-unauthenticated in so many words.
CMD ["serve", "--listen", "0.0.0.0:8080"]
