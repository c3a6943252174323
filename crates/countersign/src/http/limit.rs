//! How often an address or a client may call: token buckets, per node.
//!
//! They dampen floods. They are not what stops guessing: that is the lock in the person's own record.

use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

/// The party an address stands for: an IPv4 address, or the first 64 bits of an IPv6 address.
///
/// A single IPv6 host is handed 2^64 addresses; counting each by itself would count nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Network {
    /// One IPv4 address, also when it arrived in its IPv6 form.
    V4(u32),
    /// A /64 of IPv6 addresses.
    V6(u64),
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => {
                let [a, b, c, d, e, f, g, h, ..] = address.octets();
                Self::V6(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
            }
        }
    }
}

/// How fast a bucket refills, and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    count: u32,
    period: Duration,
    burst: u32,
}

impl Rate {
    /// Allows everything.
    pub const UNLIMITED: Self = Self::per_second(0, 0);

    /// Allows `count` calls a second, and `burst` at once. A count of 0 switches the limit off.
    pub const fn per_second(count: u32, burst: u32) -> Self {
        Self { count, period: Duration::from_secs(1), burst }
    }

    /// Allows `count` calls a minute, and `burst` at once. A count of 0 switches the limit off.
    pub const fn per_minute(count: u32, burst: u32) -> Self {
        Self { count, period: Duration::from_secs(60), burst }
    }

    /// Returns what the limiter works with; `None` when the limit is off.
    fn quota(self) -> Option<Quota> {
        let refill = self.period.checked_div(self.count)?.max(Duration::from_nanos(1));
        // A bucket that holds nothing would refuse for ever.
        let burst = NonZeroU32::new(self.burst).unwrap_or(NonZeroU32::MIN);
        Some(Quota::with_period(refill)?.allow_burst(burst))
    }
}

/// The rates of all buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// All calls of one address.
    pub per_address: Rate,
    /// All calls of one client.
    pub per_client: Rate,
    /// Token and sign-in requests of one address.
    pub sign_in: Rate,
}

impl Default for Rates {
    fn default() -> Self {
        Self {
            per_address: Rate::per_second(100, 400),
            per_client: Rate::per_second(1_000, 4_000),
            sign_in: Rate::per_minute(60, 30),
        }
    }
}

/// A refusal, with the time after which a call can succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many requests: retry after {} s", self.seconds())]
pub struct Retry {
    /// How long to wait.
    pub after: Duration,
}

impl Retry {
    /// Returns the value of a `Retry-After` header: whole seconds, rounded up, at least one.
    pub fn seconds(&self) -> u64 {
        let started = u64::from(self.after.subsec_nanos() > 0);
        (self.after.as_secs() + started).max(1)
    }
}

/// Counts calls and refuses those that come too fast.
#[derive(Debug)]
pub struct RateLimits {
    per_address: Buckets<Network>,
    per_client: Buckets<[u8; 16]>,
    sign_in: Buckets<Network>,
}

impl RateLimits {
    /// Starts with every bucket full.
    pub fn new(rates: &Rates) -> Self {
        Self {
            per_address: Buckets::new(rates.per_address),
            per_client: Buckets::new(rates.per_client),
            sign_in: Buckets::new(rates.sign_in),
        }
    }

    /// Counts a call from `address`.
    pub fn check_address(&self, address: IpAddr) -> Result<(), Retry> {
        self.per_address.check(&address.into())
    }

    /// Counts a call of a client, named by its id.
    pub fn check_client(&self, key: [u8; 16]) -> Result<(), Retry> {
        self.per_client.check(&key)
    }

    /// Counts a token or sign-in request from `address`.
    pub fn check_sign_in(&self, address: IpAddr) -> Result<(), Retry> {
        self.sign_in.check(&address.into())
    }

    /// Forgets full buckets every `interval`, for ever.
    ///
    /// A full bucket is the same as none, so memory is bounded by the callers of the last moments.
    pub async fn sweep(&self, interval: Duration) {
        let mut tick = tokio::time::interval(interval);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.forget_full();
        }
    }

    fn forget_full(&self) {
        self.per_address.forget_full();
        self.per_client.forget_full();
        self.sign_in.forget_full();
    }
}

/// One bucket per key, or no limit at all.
#[derive(Debug)]
struct Buckets<K: Hash + Eq + Clone>(Option<RateLimiter<K, DashMapStateStore<K>, DefaultClock>>);

impl<K: Hash + Eq + Clone> Buckets<K> {
    fn new(rate: Rate) -> Self {
        Self(rate.quota().map(RateLimiter::dashmap))
    }

    fn check(&self, key: &K) -> Result<(), Retry> {
        let Some(limiter) = &self.0 else { return Ok(()) };
        limiter
            .check_key(key)
            .map_err(|refusal| Retry { after: refusal.wait_time_from(limiter.clock().now()) })
    }

    fn forget_full(&self) {
        if let Some(limiter) = &self.0 {
            limiter.retain_recent();
            limiter.shrink_to_fit();
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.as_ref().map_or(0, RateLimiter::len)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::sync::Arc;

    use super::*;

    const CLIENT: [u8; 16] = [7; 16];

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn only(per_client: Rate) -> RateLimits {
        RateLimits::new(&Rates { per_address: Rate::UNLIMITED, per_client, sign_in: Rate::UNLIMITED })
    }

    #[test]
    fn a_spent_bucket_refuses_and_says_when_to_come_back() {
        let limits = only(Rate::per_minute(2, 3));

        let allowed = (0..3).all(|_| limits.check_client(CLIENT).is_ok());
        let refused = limits.check_client(CLIENT).unwrap_err();

        assert!(allowed);
        assert!(refused.after > Duration::from_secs(29), "{refused:?}");
        assert_eq!(refused.seconds(), 30);
        assert_eq!(refused.to_string(), "too many requests: retry after 30 s");
    }

    #[test]
    fn a_bucket_refills_with_time() {
        let limits = only(Rate::per_second(20, 1));
        limits.check_client(CLIENT).unwrap();
        let refused = limits.check_client(CLIENT).unwrap_err();

        std::thread::sleep(refused.after + Duration::from_millis(5));

        limits.check_client(CLIENT).unwrap();
        limits.check_client(CLIENT).unwrap_err();
    }

    #[test]
    fn each_key_has_its_own_bucket() {
        let limits = only(Rate::per_minute(1, 1));
        limits.check_client(CLIENT).unwrap();
        limits.check_client(CLIENT).unwrap_err();

        limits.check_client([8; 16]).unwrap();
        limits.check_address(address("192.0.2.1")).unwrap();
    }

    #[test]
    fn sign_in_is_counted_apart_from_other_calls() {
        let one = Rate::per_minute(1, 1);
        let limits = RateLimits::new(&Rates { per_address: one, per_client: one, sign_in: one });
        let caller = address("192.0.2.1");

        limits.check_sign_in(caller).unwrap();
        limits.check_sign_in(caller).unwrap_err();

        limits.check_address(caller).unwrap();
        limits.check_address(caller).unwrap_err();
    }

    #[test]
    fn a_rate_of_zero_switches_a_limit_off() {
        let limits = only(Rate::per_second(0, 1));

        assert!((0..1000).all(|_| limits.check_client(CLIENT).is_ok()));
        assert_eq!(limits.per_client.len(), 0);
    }

    #[test]
    fn a_burst_of_zero_still_lets_one_call_through() {
        let limits = only(Rate::per_minute(1, 0));

        limits.check_client(CLIENT).unwrap();
        limits.check_client(CLIENT).unwrap_err();
    }

    #[test]
    fn an_ipv6_host_cannot_escape_by_changing_its_address() {
        let rates = Rates { per_address: Rate::per_minute(1, 1), ..Rates::default() };
        let limits = RateLimits::new(&rates);

        limits.check_address(address("2001:db8:0:1::1")).unwrap();
        limits.check_address(address("2001:db8:0:1:ffff::2")).unwrap_err();
        limits.check_address(address("2001:db8:0:2::1")).unwrap();
    }

    #[test]
    fn an_ipv4_address_is_the_same_in_its_ipv6_form() {
        assert_eq!(Network::from(address("::ffff:192.0.2.1")), Network::from(address("192.0.2.1")));
        assert_ne!(Network::from(address("192.0.2.1")), Network::from(address("192.0.2.2")));
    }

    #[test]
    fn retry_after_rounds_up_to_whole_seconds() {
        let seconds = |millis| Retry { after: Duration::from_millis(millis) }.seconds();

        assert_eq!([0, 1, 999, 1000, 1001, 2500].map(seconds), [1, 1, 1, 1, 2, 3]);
    }

    #[test]
    fn one_token_has_one_taker_among_sixteen() {
        let limits = only(Rate::per_minute(1, 1));

        let taken = std::thread::scope(|scope| {
            let callers: Vec<_> =
                (0..16).map(|_| scope.spawn(|| limits.check_client(CLIENT).is_ok())).collect();
            callers.into_iter().map(|caller| caller.join().unwrap()).filter(|&won| won).count()
        });

        assert_eq!(taken, 1);
    }

    #[tokio::test]
    async fn the_sweep_forgets_full_buckets_and_keeps_the_others() {
        let rates = Rates { per_address: Rate::per_second(200, 1), ..Rates::default() };
        let rates = Rates { sign_in: Rate::per_minute(1, 1), ..rates };
        let limits = Arc::new(RateLimits::new(&rates));
        for last in 0..100 {
            limits.check_address(IpAddr::from([192, 0, 2, last])).unwrap();
        }
        limits.check_sign_in(address("192.0.2.1")).unwrap();

        let sweeper = Arc::clone(&limits);
        let sweep = tokio::spawn(async move { sweeper.sweep(Duration::from_millis(20)).await });
        tokio::time::sleep(Duration::from_millis(150)).await;
        sweep.abort();

        assert_eq!(limits.per_address.len(), 0);
        assert_eq!(limits.sign_in.len(), 1);
        limits.check_sign_in(address("192.0.2.1")).unwrap_err();
    }
}
