//! When to try again, and how long to wait before it.

use std::time::{Duration, SystemTime};

/// The first wait: long enough for a restarted back end to answer, short enough not to be felt.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The longest wait that is not asked for by the server.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// The longest wait a server may ask for: a bound, so that a `Retry-After` of a year is not a hang.
pub(super) const LONGEST_ASKED: Duration = Duration::from_secs(300);

/// Returns whether a status says that the same request may succeed later.
pub(super) fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

/// Returns how long to wait before attempt `failures + 1`: exponential, with jitter so that workers that failed
/// together do not come back together.
pub(super) fn backoff(failures: u32) -> Duration {
    let full = FIRST_WAIT.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_WAIT);
    full.mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// Reads `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    let wait = if let Ok(seconds) = value.parse::<u64>() {
        Duration::from_secs(seconds)
    } else if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        LONGEST_ASKED
    } else {
        httpdate::parse_http_date(value).ok()?.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(LONGEST_ASKED))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_bounded() {
        for _ in 0..50 {
            let first = backoff(1);
            assert!(first >= FIRST_WAIT / 2 && first <= FIRST_WAIT, "{first:?}");
            let third = backoff(3);
            assert!(third >= FIRST_WAIT * 2 && third <= FIRST_WAIT * 4, "{third:?}");
            assert!(backoff(u32::MAX) <= LONGEST_WAIT && backoff(60) >= LONGEST_WAIT / 2);
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_capped() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        for (value, seconds) in [
            ("7", Some(7)),
            (" 0 ", Some(0)),
            ("86400", Some(300)),
            ("99999999999999999999999", Some(300)),
            ("Sun, 06 Nov 1994 08:49:57 GMT", Some(20)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("Mon, 06 Nov 1995 08:49:37 GMT", Some(300)),
            ("soon", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs), "{value}");
        }
    }
}
