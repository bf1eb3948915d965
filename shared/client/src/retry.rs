//! When to try again.

use std::time::Duration;

/// A delay that grows with each failure and is random below its bound ("full jitter"), so that clients
/// which lost one replica together do not reconnect together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Bound of the first delay.
    pub first: Duration,
    /// Bound of all delays.
    pub longest: Duration,
}

impl Backoff {
    /// The delay after `failures` failures in a row (from 1), for a random number from 0 to 1.
    pub fn delay(&self, failures: u32, random: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(20);
        self.first
            .saturating_mul(1 << doublings)
            .min(self.longest)
            .mul_f64(random.clamp(0.0, 1.0))
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            longest: Duration::from_secs(2),
        }
    }
}

/// How long a call is repeated, and how fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// When the caller gets an answer at the latest, repeats included. Default 30 s.
    pub deadline: Duration,
    /// How long one replica may take before another is asked. Default 10 s.
    pub attempt_timeout: Duration,
    /// The delay between attempts.
    pub backoff: Backoff,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(30),
            attempt_timeout: Duration::from_secs(10),
            backoff: Backoff::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_their_bound_and_are_jittered_down_to_zero() {
        let backoff = Backoff::default();
        assert_eq!(backoff.delay(1, 1.0), Duration::from_millis(100));
        assert_eq!(backoff.delay(3, 1.0), Duration::from_millis(400));
        assert_eq!(backoff.delay(u32::MAX, 1.0), Duration::from_secs(2));
        assert_eq!(backoff.delay(3, 0.5), Duration::from_millis(200));
        assert_eq!(backoff.delay(3, 0.0), Duration::ZERO);
    }
}
