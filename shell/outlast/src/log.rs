//! Logging: lines of text or JSON on standard error, in which no token, query string or control character survives.
//! Nobody waits for standard error: what is said faster than it is read is dropped, and the number of lines is told.

use std::{
    io::{self, Write},
    time::Duration,
};

use anyhow::Context;
use outlast_runtime::Lines;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

use crate::config::Settings;

/// Bytes of lines that may wait for standard error.
const WAITING_BYTES_MAX: usize = 4 << 20;
/// How long the process's end may wait for the last lines.
const FLUSH_SPAN: Duration = Duration::from_secs(1);

/// Starts logging, panics included, for the rest of the process.
///
/// # Errors
/// When `log.filter` is no filter, logging has been started before, or there is no thread for it.
pub(crate) fn start(settings: &Settings) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&settings.log_filter).context("log.filter is no filter")?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false);
    let lines = Lines::start(io::stderr(), WAITING_BYTES_MAX, |lost| {
        tracing::warn!(lost, "log lines were dropped: standard error was not read");
    });
    let lines = lines.context("no thread for the log")?;
    lines.flush_at_exit(FLUSH_SPAN);
    let subscriber = subscriber.with_writer(Scrubbing(lines));
    let started = if settings.log_json {
        subscriber.json().flatten_event(true).try_init()
    } else {
        subscriber.try_init()
    };
    started.map_err(|error| anyhow::anyhow!("logging cannot start: {error}"))?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let message = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(place, message, "panic");
    }));
    Ok(())
}

struct Scrubbing(Lines);

impl<'a> MakeWriter<'a> for Scrubbing {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { text: Vec::new(), lines: &self.0 }
    }
}

/// One event's line, handed over whole when the event ends.
struct Line<'a> {
    text: Vec<u8>,
    lines: &'a Lines,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.text);
        let mut line = scrub(text.trim_end_matches('\n'));
        line.push('\n');
        self.lines.push(line.into_bytes());
    }
}

/// `line` without what a log must not hold: JWTs and the queries of URLs become `(token)` and `(query)`, control
/// characters their escapes, so that no client can forge a line.
fn scrub(line: &str) -> String {
    let mut scrubbed = String::with_capacity(line.len());
    let mut rest = line;
    let mut before = ' ';
    while let Some(next) = rest.chars().next() {
        let length = if next == '?' && is_url(before) { query(rest) } else { 0 };
        let token = if before.is_ascii_alphanumeric() { 0 } else { token(rest) };
        if length > 0 {
            scrubbed.push_str("?(query)");
        } else if token > 0 {
            scrubbed.push_str("(token)");
        } else if next.is_control() || matches!(next, '\u{2028}' | '\u{2029}') {
            scrubbed.extend(next.escape_default());
        } else {
            scrubbed.push(next);
        }
        before = next;
        rest = rest.get(length.max(token).max(next.len_utf8())..).unwrap_or_default();
    }
    scrubbed
}

fn is_url(before: char) -> bool {
    before.is_ascii_alphanumeric() || "/-_.~%".contains(before)
}

/// Length of the query at the head of `text`, which starts with its question mark; 0 when it is none.
fn query(text: &str) -> usize {
    let end = text.find(|c: char| c.is_whitespace() || "\"'<>)".contains(c)).unwrap_or(text.len());
    if text.get(..end).is_some_and(|query| query.contains('=')) { end } else { 0 }
}

/// Length of the JWT at the head of `text`, whole or cut off after its header; 0 when it is none.
fn token(text: &str) -> usize {
    // "eyJ" is how every JSON object that starts with a name begins in base64.
    if !text.starts_with("eyJ") {
        return 0;
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.=".contains(c);
    let end = text.find(|c| !fits(c)).unwrap_or(text.len());
    if end >= 16 { end } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::scrub;

    #[test]
    fn nothing_secret_or_forged_survives() {
        let jwt = "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJrIn0.c2ln-_";
        for (line, expected) in [
            ("plain text? yes = no", "plain text? yes = no"),
            ("GET /rtc/v1?access_token=abc&x=1 HTTP/1.1", "GET /rtc/v1?(query) HTTP/1.1"),
            ("uri=\"/rtc?a=b\" next", "uri=\"/rtc?(query)\" next"),
            ("wss://h/?join_request=A%2B", "wss://h/?(query)"),
            ("really? why=me", "really? why=me"),
            ("two\nlines", "two\\nlines"),
            ("bell\u{7} esc\u{1b}[31m red", "bell\\u{7} esc\\u{1b}[31m red"),
            ("sep\u{2028}arator", "sep\\u{2028}arator"),
            ("eyJust a word", "eyJust a word"),
            ("Grüße, 日本", "Grüße, 日本"),
        ] {
            assert_eq!(scrub(line), expected);
        }
        assert_eq!(scrub(&format!("Bearer {jwt}, sent")), "Bearer (token), sent");
        assert_eq!(scrub(&format!("{{\"t\":\"{jwt}\"}}")), "{\"t\":\"(token)\"}");
        assert_eq!(scrub(&jwt[..30]), "(token)");
    }
}
