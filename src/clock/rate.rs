/// How often something may be done: so many times at once after a quiet time, and from then on so many a second. All that has to be kept of whoever does it is until when
/// everything is paid for, in microseconds of uptime; nothing once that is past.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// At once.
    pub at_once: u64,
    /// From then on.
    pub a_second: u64,
}

impl Rate {
    /// What one costs, in microseconds.
    pub const fn price_us(self) -> u64 {
        1_000_000 / self.a_second
    }

    /// Until when everything is paid for with one more; none if that is too far ahead, and it may not be done.
    pub fn one_more(self, until: Option<u64>, now_us: u64) -> Option<u64> {
        let until = until.map_or(now_us, |until| until.max(now_us)) + self.price_us();
        (until <= now_us + self.at_once * self.price_us()).then_some(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_once_and_so_many_a_second() {
        let rate = Rate { at_once: 10, a_second: 100 };
        let mut until = None;
        let mut done =
            |now_us: u64| (0..1_000).filter(|_| rate.one_more(until, now_us).inspect(|more| until = Some(*more)).is_some()).count();
        assert_eq!([5_000_000, 5_000_000, 5_049_999, 5_050_000, 9_000_000].map(&mut done), [10, 0, 4, 1, 10]);
    }
}
