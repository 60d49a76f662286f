//! Which (product, model) pairs have a series of their own: the largest by credits (Law 6). Names come from outside, so that
//! anybody can make up more of them than fit; a made-up one must never take the place of one that spends.
//!
//! A counter must not fall: a pair that loses its series leaves what it counted to [`OTHER`], and one that wins a series
//! counts in it from then on.

use std::collections::HashMap;

use prometheus::CounterVec;

use super::OTHER;

/// The most pairs with a series of their own.
pub(super) const SHOWN_MAX: usize = 200;
/// The most pairs without one whose credits are followed.
const WAITING_MAX: usize = 1000;
/// How much more a pair must have than the least that is shown: two that are nearly equal shall not take turns.
const MARGIN: f64 = 1.1;

type Pair = (String, String);

/// Credits of a pair without a series, as a bounded list knows them: at least `sum - unsure`, at most `sum`.
#[derive(Clone, Copy)]
struct Waiting {
    sum: f64,
    unsure: f64,
}

/// The pairs that are known, with the credits of each since the process started.
#[derive(Default)]
pub(super) struct CreditSeries {
    shown: HashMap<Pair, f64>,
    waiting: HashMap<Pair, Waiting>,
}

impl CreditSeries {
    /// Counts a pair's credits in its own series or under [`OTHER`]; whether it has its own.
    pub(super) fn add(&mut self, pair: Pair, credits: f64, counters: &CounterVec) -> bool {
        if let Some(sum) = self.shown.get_mut(&pair) {
            *sum += credits;
            series(counters, &pair).inc_by(credits);
            return true;
        }
        let Waiting { sum, unsure } = self.waiting.remove(&pair).unwrap_or_else(|| self.newcomer());
        let (sum, known) = (sum + credits, sum - unsure + credits);
        if self.shown.len() >= SHOWN_MAX {
            let Some(least) = least(&self.shown, |sum| *sum).filter(|least| known > self.shown[least] * MARGIN)
            else {
                self.waiting.insert(pair, Waiting { sum, unsure });
                counters.with_label_values(&[OTHER, OTHER]).inc_by(credits);
                return false;
            };
            self.hide(least, counters);
        }
        series(counters, &pair).inc_by(credits);
        self.shown.insert(pair, known);
        true
    }

    /// Makes room for a pair that nobody followed: it may have had as much as the least that is followed.
    fn newcomer(&mut self) -> Waiting {
        let full = self.waiting.len() >= WAITING_MAX;
        let least = least(&self.waiting, |waiting| waiting.sum).filter(|_| full);
        let sum = least.and_then(|least| self.waiting.remove(&least)).map_or(0.0, |left| left.sum);
        Waiting { sum, unsure: sum }
    }

    fn hide(&mut self, pair: Pair, counters: &CounterVec) {
        let counted = series(counters, &pair).get();
        // It is there: it was just read.
        let _ = counters.remove_label_values(&[pair.0.as_str(), pair.1.as_str()]);
        counters.with_label_values(&[OTHER, OTHER]).inc_by(counted);
        let sum = self.shown.remove(&pair).unwrap_or_default();
        if self.waiting.len() < WAITING_MAX {
            self.waiting.insert(pair, Waiting { sum, unsure: 0.0 });
        }
    }
}

fn series(counters: &CounterVec, (product, model): &Pair) -> prometheus::Counter {
    counters.with_label_values(&[product.as_str(), model.as_str()])
}

fn least<T>(of: &HashMap<Pair, T>, sum: impl Fn(&T) -> f64) -> Option<Pair> {
    of.iter().min_by(|(_, one), (_, other)| sum(one).total_cmp(&sum(other))).map(|(pair, _)| pair.clone())
}
