//! The paths of the admin listener.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Method, Request, Response, StatusCode};
use prometheus_client::encoding::prometheus_text;

use super::Overview;
use super::exposition::Exposition;
use super::health::Trouble;
use crate::sys::calls;

const TEXT: &str = "text/plain; charset=utf-8";

type Reply = Response<Full<Bytes>>;

/// The answers, from the server's state at that moment.
#[derive(Debug)]
pub(super) struct Answers(Exposition);

impl Answers {
    pub(super) fn new(overview: Overview) -> Self {
        Self(Exposition::new(overview))
    }

    pub(super) fn to<B>(&self, request: &Request<B>) -> Reply {
        let overview = self.0.overview();
        let is_reading = matches!(*request.method(), Method::GET | Method::HEAD);
        calls::request(request.uri().path());
        match request.uri().path() {
            "/healthz" | "/readyz" | "/metrics" if !is_reading => not_allowed(),
            "/healthz" => verdict(overview.health()),
            "/readyz" => verdict(overview.readiness()),
            "/metrics" => self.metrics(),
            _ => line(
                StatusCode::NOT_FOUND,
                "unknown path: use /healthz, /readyz or /metrics\n",
            ),
        }
    }

    fn metrics(&self) -> Reply {
        match self.0.text() {
            Ok(text) => reply(StatusCode::OK, prometheus_text::CONTENT_TYPE, text.into()),
            // Writing into memory does not fail.
            Err(error) => line(
                StatusCode::INTERNAL_SERVER_ERROR,
                format!("cannot write the metrics: {error}\n"),
            ),
        }
    }
}

fn verdict(health: Result<(), Trouble>) -> Reply {
    match health {
        Ok(()) => line(StatusCode::OK, "ok\n"),
        Err(trouble) => line(StatusCode::SERVICE_UNAVAILABLE, format!("{trouble}\n")),
    }
}

fn not_allowed() -> Reply {
    let mut reply = line(StatusCode::METHOD_NOT_ALLOWED, "use GET or HEAD\n");
    let allowed = HeaderValue::from_static("GET, HEAD");
    reply.headers_mut().insert(ALLOW, allowed);
    reply
}

fn line(status: StatusCode, text: impl Into<Bytes>) -> Reply {
    reply(status, TEXT, text.into())
}

fn reply(status: StatusCode, content_type: &'static str, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}
