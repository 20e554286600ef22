//! The admin listener: /metrics, /healthz/live and /healthz/ready. Answers from this process's memory alone, so that
//! no other process's trouble can make it look ill. Tests on loopback wipe the directory through it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context;
use http::{Method, Request, Response, StatusCode, header};
use hyper::body::Incoming;
use outlast_engines::Embedded;
use outlast_link::{Body, ServerLimits, ServerTls, text};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio::{net::TcpListener, sync::watch};

/// What the listener shows.
pub(crate) struct Admin {
    /// All metrics of the process.
    pub(crate) registry: Registry,
    /// One flag a role.
    pub(crate) ready: Vec<Arc<AtomicBool>>,
    /// Wipes the gateway's directory, where tests may.
    pub(crate) wipe: Option<Arc<Embedded>>,
}

/// Binds `listen` and returns what serves it until `shutdown` turns true.
///
/// # Errors
/// When the address cannot be bound.
pub(crate) async fn serve(
    listen: SocketAddr,
    admin: Admin,
    shutdown: watch::Receiver<bool>,
) -> anyhow::Result<impl Future<Output = ()>> {
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("admin.listen {listen} cannot be bound"))?;
    let admin = Arc::new(admin);
    let handler = move |_peer, request: Request<Incoming>| {
        let answer = admin.answer(request.method(), request.uri().path());
        async move { answer }
    };
    Ok(outlast_link::serve(listener, ServerTls::Plain, ServerLimits::default(), handler, shutdown))
}

impl Admin {
    fn answer(&self, method: &Method, path: &str) -> Response<Body> {
        if let (&Method::POST, "/debug/directory/wipe", Some(wipe)) = (method, path, &self.wipe) {
            wipe.wipe();
            tracing::warn!("the directory has been wiped, as a test asked for");
            return text(StatusCode::OK, "wiped\n");
        }
        if method != Method::GET && method != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n");
        }
        match path {
            "/healthz/live" => text(StatusCode::OK, "live\n"),
            "/healthz/ready" if self.ready.iter().all(|flag| flag.load(Ordering::Acquire)) => {
                text(StatusCode::OK, "ready\n")
            }
            "/healthz/ready" => text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
            "/metrics" => self.metrics(),
            _ => text(StatusCode::NOT_FOUND, "there are /metrics, /healthz/live, /healthz/ready\n"),
        }
    }

    fn metrics(&self) -> Response<Body> {
        let mut metrics = String::new();
        encode(&mut metrics, &self.registry).expect("writing to a text cannot fail");
        let mut response = text(StatusCode::OK, metrics);
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static(
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            ),
        );
        response
    }
}

#[cfg(test)]
mod tests {
    use outlast_runtime::Clock;

    use super::*;

    #[test]
    fn answers_by_path_and_readiness() {
        let flag = Arc::new(AtomicBool::new(false));
        let always = Arc::new(AtomicBool::new(true));
        let (registry, ready) = (Registry::default(), vec![always, flag.clone()]);
        let admin = Admin { registry, ready, wipe: None };
        let status = |path| admin.answer(&Method::GET, path).status().as_u16();
        assert_eq!(status("/healthz/live"), 200);
        assert_eq!(status("/healthz/ready"), 503);
        flag.store(true, Ordering::Release);
        assert_eq!(status("/healthz/ready"), 200);
        assert_eq!(status("/metrics"), 200);
        assert_eq!(status("/"), 404);
        assert_eq!(admin.answer(&Method::POST, "/metrics").status(), 405);
    }

    #[test]
    fn the_directory_is_wiped_by_tests_alone() {
        let directory = Arc::new(Embedded::new(Clock::start()).unwrap());
        let before = directory.instance();
        let mut admin = Admin { registry: Registry::default(), ready: Vec::new(), wipe: None };
        let path = "/debug/directory/wipe";
        assert_eq!(admin.answer(&Method::POST, path).status(), 405);
        admin.wipe = Some(directory.clone());
        assert_eq!(admin.answer(&Method::GET, path).status(), 404);
        assert_eq!(admin.answer(&Method::POST, "/debug/directory").status(), 405);
        assert_eq!(directory.instance(), before);
        assert_eq!(admin.answer(&Method::POST, path).status(), 200);
        assert_ne!(directory.instance(), before);
    }
}
