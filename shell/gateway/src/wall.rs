//! The wall clock, for tokens alone: read at each check, because a machine that was started with a wrong clock is put right
//! later, and must not refuse good tokens until it is restarted.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A clock that people set.
pub(crate) struct WallClock {
    read: fn() -> SystemTime,
}

impl WallClock {
    /// The machine's.
    pub(crate) fn system() -> WallClock {
        WallClock { read: SystemTime::now }
    }

    /// Time since 1970. Before that it is a broken clock: tokens then fail as not yet valid, which says so.
    pub(crate) fn unix_now(&self) -> Duration {
        (self.read)().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use outlast_token::{ApiKeys, Claims, TokenError};

    use super::*;

    static SET_TO: AtomicU64 = AtomicU64::new(0);

    #[test]
    fn a_clock_that_is_put_right_is_believed_at_the_next_check() {
        let wall =
            WallClock { read: || UNIX_EPOCH + Duration::from_secs(SET_TO.load(Ordering::Relaxed)) };
        let keys = ApiKeys::new([("key", "secret of the key")]).unwrap();
        let now = 1_800_000_000;
        let claims = Claims {
            issuer: "key".into(),
            identity: "ann".into(),
            not_before: Some(now),
            expires_at: now + 600,
            ..Claims::default()
        };
        let token = keys.mint(&claims, Duration::from_secs(now));
        let check = |seconds: u64| {
            SET_TO.store(seconds, Ordering::Relaxed);
            keys.verify(&token, wall.unix_now()).map(drop)
        };
        assert_eq!(check(now - 86_400), Err(TokenError::NotYet));
        assert_eq!(check(now), Ok(()));
        assert_eq!(check(now + 86_400), Err(TokenError::Expired));
        assert_eq!(check(now + 10), Ok(()));
    }
}
