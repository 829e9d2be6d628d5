//! The plain routes: the demo page under `/`, and nothing else.

use std::cell::RefCell;

use bytes::Bytes;
use hyper::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode, Version};

use super::refusal::Refusal;
use super::{HttpOptions, Reply, gate};

const TEMPLATE: &str = include_str!("page/index.html");

/// The template's placeholder for the path of the WebSocket, always the whole value of a
/// quoted HTML attribute.
const PLACEHOLDER: &str = "{{WS_PATH}}";

/// The page is one file that connects to its own server and loads nothing.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; \
    script-src 'unsafe-inline'; connect-src 'self' ws: wss:; img-src data:; \
    frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// A page that is cross-origin isolated gets the browser's finer clock: steps
/// of 5 instead of 100 microseconds in Chromium.
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const EMBEDDER_POLICY: HeaderName = HeaderName::from_static("cross-origin-embedder-policy");

const HEADERS: [(HeaderName, &str); 8] = [
    (CONTENT_TYPE, "text/html; charset=utf-8"),
    (CACHE_CONTROL, "no-cache"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (CONTENT_SECURITY_POLICY, POLICY),
    (OPENER_POLICY, "same-origin"),
    (EMBEDDER_POLICY, "require-corp"),
    (CONNECTION, "close"),
];

const METHOD: Refusal = Refusal::method("GET, HEAD", "only GET and HEAD are allowed here\n");

const NOT_FOUND: Refusal = Refusal::new(
    StatusCode::NOT_FOUND,
    "no page at this path; a WebSocket client must send an Upgrade request\n",
);

/// Answers a plain request.
///
/// A browser hides the answer to a refused handshake from the page. So the page sends a
/// POST, which has the page's Origin as well, and gets the reason.
pub(super) fn answer<B>(request: &Request<B>, options: &HttpOptions) -> Reply {
    if request.version() == Version::HTTP_11
        && let Err(refusal) = gate::address(request)
    {
        return refusal.reply();
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let refusal = gate::origin(request.headers(), &options.origins).err();
        return refusal.unwrap_or(METHOD).reply();
    }
    if request.uri().path() != "/" {
        return NOT_FOUND.reply();
    }
    let mut reply = Response::new(page(options.path.as_deref().unwrap_or("/")));
    for (name, value) in HEADERS {
        reply
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    reply
}

thread_local! {
    /// The last page rendered on this thread, and its path. A worker has one
    /// path, so it renders one page.
    static RENDERED: RefCell<Option<(String, Bytes)>> = const { RefCell::new(None) };
}

fn page(ws_path: &str) -> Bytes {
    RENDERED.with_borrow_mut(|rendered| match rendered {
        Some((path, page)) if path == ws_path => page.clone(),
        _ => {
            let page = Bytes::from(render(ws_path));
            *rendered = Some((ws_path.to_owned(), page.clone()));
            page
        }
    })
}

fn render(ws_path: &str) -> String {
    TEMPLATE.replace(PLACEHOLDER, &attribute_value(ws_path))
}

/// Escapes text for a quoted HTML attribute. A valid path may contain `&` and `'`; the
/// rest is escaped all the same.
fn attribute_value(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholder_is_always_the_whole_value_of_an_attribute() {
        let quoted = format!("=\"{PLACEHOLDER}\"");
        assert!(TEMPLATE.contains(PLACEHOLDER));
        assert_eq!(
            TEMPLATE.matches(PLACEHOLDER).count(),
            TEMPLATE.matches(&quoted).count(),
        );
    }

    #[test]
    fn path_is_escaped_in_its_attribute() {
        let page = render("/a&b'\"><script>");
        assert!(page.contains("=\"/a&amp;b&#39;&quot;&gt;&lt;script&gt;\""));
        assert!(!page.contains(PLACEHOLDER));
    }

    #[test]
    fn page_is_rendered_once_per_thread() {
        let (first, second) = (page("/once"), page("/once"));
        assert_eq!(first.as_ptr(), second.as_ptr());
        assert_ne!(page("/other"), first);
    }

    #[test]
    fn page_loads_nothing() {
        for outside in ["src=\"http", "href=\"http", "@import", "url(http"] {
            assert!(!TEMPLATE.contains(outside), "{outside}");
        }
    }
}
