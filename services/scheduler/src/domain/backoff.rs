//! How long a failed task waits before its next attempt.

use std::time::Duration;

use super::limits;

/// The delay before attempt n+1: `initial` · 2^(n-1), at most `longest`, times a factor of 0.5 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Delay before the second attempt, without jitter.
    pub initial: Duration,
    /// Bound of every delay, without jitter.
    pub longest: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            initial: limits::DEFAULT_INITIAL_BACKOFF,
            longest: limits::DEFAULT_MAX_BACKOFF,
        }
    }
}

impl Backoff {
    /// The delay after counted run `attempt` (from 1); `jitter` is a random number of 0 to 1.
    pub fn delay(self, attempt: i16, jitter: f64) -> Duration {
        let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(0).min(62);
        let full = self
            .initial
            .saturating_mul(1 << doublings.min(31))
            .min(self.longest);
        full.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_their_bound() {
        let seconds: Vec<u64> = (1..=12)
            .map(|attempt| Backoff::default().delay(attempt, 1.0).as_secs())
            .collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
    }

    #[test]
    fn jitter_at_most_halves_a_delay() {
        let backoff = Backoff {
            initial: Duration::from_secs(10),
            longest: Duration::from_secs(60),
        };
        assert_eq!(backoff.delay(1, 0.0), Duration::from_secs(5));
        assert_eq!(backoff.delay(1, 0.5), Duration::from_millis(7_500));
        assert_eq!(backoff.delay(i16::MAX, 0.0), Duration::from_secs(30));
    }
}
