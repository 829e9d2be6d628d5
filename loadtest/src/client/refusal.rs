//! The response of a server that does not switch protocols.

use std::fmt;

use super::excerpt::excerpt;
use super::fields::values;

/// The parts of a response other than 101 that help a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    status: u16,
    /// The status line's reason, quoted if it has one.
    phrase: Option<String>,
    location: Option<String>,
    retry_after: Option<String>,
    /// The body's first line with something in it.
    body: Option<String>,
}

impl Refusal {
    /// Parses it; `None` while its body may still contain the reason.
    pub(super) fn read(
        response: &httparse::Response<'_, '_>,
        body: &[u8],
        is_over: bool,
    ) -> Option<Self> {
        let field = |name| values(response.headers, name).next();
        let is_chunked = field("transfer-encoding").is_some();
        let len = field("content-length")
            .and_then(|len| std::str::from_utf8(len).ok()?.parse::<usize>().ok());
        let status = response.code.unwrap_or_default();
        // Neither has a body (RFC 9110, section 6.4.1).
        let has_body = !matches!(status, 204 | 304);
        let line = first_line(body, is_chunked);
        let is_whole = !has_body
            || len.is_some_and(|len| body.len() >= len)
            || (is_chunked && body.ends_with(b"0\r\n\r\n"));
        if !is_over && !is_whole {
            return None;
        }
        let phrase = response.reason.filter(|phrase| !phrase.is_empty());
        Some(Self {
            status,
            phrase: phrase.map(|phrase| phrase.escape_debug().to_string()),
            location: field("location").map(excerpt),
            retry_after: field("retry-after").map(excerpt),
            body: line.map(|line| excerpt(&line)),
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "status {}", self.status)?;
        if let Some(phrase) = &self.phrase {
            write!(f, " {phrase}")?;
        }
        write!(f, " instead of 101")?;
        if let Some(location) = &self.location {
            write!(f, "; it redirects to {location}: give that URL")?;
        }
        if let Some(time) = &self.retry_after {
            write!(f, "; Retry-After: {time}")?;
        }
        match &self.body {
            Some(body) => write!(f, "; body: {body}"),
            None => Ok(()),
        }
    }
}

/// The first line of the body with text other than markup and chunk lengths.
fn first_line(body: &[u8], is_chunked: bool) -> Option<Vec<u8>> {
    let is_length = |line: &[u8]| is_chunked && line.iter().all(u8::is_ascii_hexdigit);
    body.split(|&byte| byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !is_length(line))
        .map(without_markup)
        .find(|line| !line.is_empty())
}

/// A line without its markup.
fn without_markup(line: &[u8]) -> Vec<u8> {
    let mut depth = 0_usize;
    let mut text = Vec::new();
    for &byte in line {
        match byte {
            b'<' => depth += 1,
            b'>' => depth = depth.saturating_sub(1),
            _ if depth == 0 => text.push(byte),
            _ => {}
        }
    }
    text.trim_ascii().to_vec()
}

#[cfg(test)]
mod tests {
    use super::super::HandshakeError;
    use super::super::handshake::tests::handshake;

    /// The text for a complete refusal; asserts that a part of it is incomplete.
    fn refusal_text(answer: &str) -> String {
        for end in 0..answer.len() {
            let part = handshake().check(&answer.as_bytes()[..end], false);
            assert!(matches!(part, Ok(None)), "{end} of {answer}: {part:?}");
        }
        match handshake().check(answer.as_bytes(), false) {
            Err(HandshakeError::Refused(refusal)) => refusal.to_string(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_line_of_the_body_is_quoted() {
        assert_eq!(
            refusal_text(
                "HTTP/1.1 403 Forbidden\r\nContent-Length: 20\r\n\r\norigin not allowed\r\n"
            ),
            "status 403 Forbidden instead of 101; body: \"origin not allowed\""
        );
        assert_eq!(
            refusal_text(
                "HTTP/1.1 400 Bad Request\r\nTransfer-Encoding: chunked\r\n\r\n\
                 16\r\n<html>\n<h1>Go away</h1>\r\n0\r\n\r\n"
            ),
            "status 400 Bad Request instead of 101; body: \"Go away\""
        );
        assert_eq!(
            refusal_text("HTTP/1.1 500\r\nContent-Length: 0\r\n\r\n"),
            "status 500 instead of 101"
        );
    }

    #[test]
    fn a_body_without_a_length_ends_with_the_connection() {
        let answer = b"HTTP/1.0 404 Not Found\r\n\r\nno such path";
        assert!(matches!(handshake().check(answer, false), Ok(None)));
        let error = handshake().check(answer, true).unwrap_err();
        assert_eq!(
            error.to_string(),
            "status 404 Not Found instead of 101; body: \"no such path\""
        );
        let endless = [&answer[..], "x".repeat(20_000).as_bytes()].concat();
        assert!(handshake().check(&endless, false).is_err());
    }

    #[test]
    fn location_and_retry_after_are_reported() {
        assert_eq!(
            refusal_text("HTTP/1.1 301 Moved\r\nLocation: wss://h/ws\r\nContent-Length: 0\r\n\r\n"),
            "status 301 Moved instead of 101; it redirects to \"wss://h/ws\": give that URL"
        );
        assert_eq!(
            refusal_text(
                "HTTP/1.1 503 Busy\r\nRetry-After: 120\r\nContent-Length: 5\r\n\r\nfull\n"
            ),
            "status 503 Busy instead of 101; Retry-After: \"120\"; body: \"full\""
        );
    }

    #[test]
    fn control_characters_are_escaped() {
        let text = refusal_text("HTTP/1.1 400 X\r\nContent-Length: 6\r\n\r\n\x1b[2Jab");
        assert!(text.chars().all(|c| !c.is_control()), "{text:?}");
    }
}
