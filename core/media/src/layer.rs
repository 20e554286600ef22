//! One encoding of a publication as it comes in, and the choice between them.

use std::time::Duration;

use outlast_model::Time;

use crate::config::{Kind, LayerConfig, Wanted};
use crate::ring::Ring;

/// A layer that was silent for so long is not waited for: less makes a slow frame rate flap, more is a longer freeze.
const SILENT_AFTER: Duration = Duration::from_millis(1_000);
/// Least span between two key frame requests for one publication, whatever their layers.
pub(crate) const KEY_FRAME_SPACING: Duration = Duration::from_millis(500);

/// A sender report: a point where the publisher's wall clock and a layer's timestamps are known to agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Anchor {
    /// 32.32 fixed point seconds of the publisher's clock.
    pub(crate) ntp: u64,
    pub(crate) timestamp: u32,
    pub(crate) arrived: Time,
}

impl Anchor {
    /// The publisher's clock and the layer's timestamp at `now`.
    pub(crate) fn at(&self, now: Time, clock_rate: u32) -> (u64, u32) {
        let since = now.since(self.arrived);
        let ntp = (since.as_nanos() << 32) / 1_000_000_000;
        (self.ntp.wrapping_add(ntp as u64), self.timestamp.wrapping_add(ticks(since, clock_rate)))
    }

    /// What `timestamp`, on this anchor's layer, is called on `other`'s.
    pub(crate) fn translate(&self, timestamp: u32, other: &Anchor, clock_rate: u32) -> u32 {
        let ahead = self.ntp.wrapping_sub(other.ntp) as i64;
        let ahead = (i128::from(ahead) * i128::from(clock_rate)) >> 32;
        let since_report = timestamp.wrapping_sub(self.timestamp);
        other.timestamp.wrapping_add(ahead as u32).wrapping_add(since_report)
    }
}

/// `span` in timestamp units.
pub(crate) fn ticks(span: Duration, clock_rate: u32) -> u32 {
    (span.as_nanos() * u128::from(clock_rate) / 1_000_000_000) as u32
}

/// One layer's state.
pub(crate) struct Layer {
    pub(crate) rid: Option<String>,
    pub(crate) width: u32,
    /// SSRCs that the SDP named or packets brought.
    pub(crate) ssrc: Option<u32>,
    pub(crate) rtx_ssrc: Option<u32>,
    /// Counts the SSRCs this layer has had: sequence numbers of two are not comparable.
    pub(crate) epoch: u32,
    pub(crate) ring: Ring,
    pub(crate) anchor: Option<Anchor>,
    pub(crate) heard: Option<Time>,
    pub(crate) active: bool,
    /// Those who see it need a key frame.
    broken: bool,
    /// How much a key frame is needed, as of the last look.
    need: u32,
    /// How often another layer's was asked for instead.
    passed_over: u32,
}

impl Layer {
    pub(crate) fn new(kind: Kind, config: LayerConfig) -> Layer {
        Layer {
            rid: config.rid,
            width: config.width,
            ssrc: config.ssrc,
            rtx_ssrc: config.rtx_ssrc,
            epoch: 0,
            ring: Ring::new(kind),
            anchor: None,
            heard: None,
            active: false,
            broken: false,
            need: 0,
            passed_over: 0,
        }
    }

    /// Another SSRC took this layer over.
    pub(crate) fn start_over(&mut self, ssrc: u32) {
        self.ssrc = Some(ssrc);
        self.epoch += 1;
        self.ring.clear();
        self.anchor = None;
    }

    /// Whether it is to be taken for silent at `now`.
    pub(crate) fn silent(&self, now: Time) -> bool {
        self.heard.is_none_or(|heard| heard + SILENT_AFTER <= now)
    }

    /// Notes that those who see it have lost their picture.
    pub(crate) fn broke(&mut self) {
        self.broken = true;
    }

    /// Begins another count of those who need a key frame.
    pub(crate) fn count_need(&mut self) {
        self.need = 0;
    }

    /// Counts one who sees this layer: for nothing while the picture is whole.
    pub(crate) fn seen(&mut self) {
        self.need += 2 * u32::from(self.broken);
    }

    /// Counts one who waits for this layer, `blind` when there is no other to look at meanwhile.
    pub(crate) fn awaited(&mut self, blind: bool) {
        self.need += 1 + u32::from(blind);
    }

    /// The SSRC to ask for a key frame, if one is needed: nobody's loss is mended for nobody.
    fn asks(&self) -> Option<u32> {
        self.ssrc.filter(|_| self.need > 0 && self.heard.is_some())
    }

    /// A key frame was asked for, or started: nobody waits any more.
    pub(crate) fn key_frame_came(&mut self) {
        (self.broken, self.need, self.passed_over) = (false, 0, 0);
    }
}

/// Chooses the layer whose key frame is to be asked for now: the most needed, but first of all one that was passed
/// over before, so that none waits for more requests than there are other layers. Returns its SSRC, and whether others
/// are left for the next time; `None` when none is needed.
pub(crate) fn ask(layers: &mut [Layer]) -> Option<(u32, bool)> {
    let needy = layers.iter_mut().rev().filter(|layer| layer.asks().is_some());
    let chosen = needy.max_by_key(|layer| (layer.passed_over, layer.need))?;
    let ssrc = chosen.asks()?;
    chosen.key_frame_came();
    let mut left = false;
    for layer in layers {
        let asks = layer.asks().is_some();
        layer.passed_over = if asks { layer.passed_over + 1 } else { 0 };
        left |= asks;
    }
    Some((ssrc, left))
}

/// Whether a key frame of any layer is needed.
pub(crate) fn needs_key_frame(layers: &[Layer]) -> bool {
    layers.iter().any(|layer| layer.asks().is_some())
}

/// The layer to forward to somebody who wants `wanted`, out of `ladder`, lowest first, each with its width and
/// whether it is active: the smallest that is wide enough, else the highest. When that is silent, the nearest active
/// one below it, else above it; when all are silent, the first choice. `None` when the ladder is empty.
pub(crate) fn choose(
    ladder: impl DoubleEndedIterator<Item = (u32, bool)> + ExactSizeIterator + Clone,
    wanted: Wanted,
) -> Option<usize> {
    let highest = ladder.len().checked_sub(1)?;
    let wide_enough = |width: u32| wanted.width > 0 && width >= wanted.width;
    let first = ladder.clone().position(|(width, _)| wide_enough(width)).unwrap_or(highest);
    let active = |range: std::ops::RangeInclusive<usize>| {
        ladder.clone().enumerate().filter(move |(at, (_, active))| *active && range.contains(at))
    };
    let below = active(0..=first).next_back();
    below.or_else(|| active(first..=highest).next()).map(|(at, _)| at).or(Some(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_layer_that_is_wide_enough() {
        let check = |active: [bool; 3], width: u32| {
            let ladder = [320, 640, 1280].into_iter().zip(active);
            let wanted = Wanted { enabled: true, width, height: width };
            choose(ladder, wanted).expect("not empty")
        };
        let all = [true; 3];
        assert_eq!(check(all, 0), 2);
        assert_eq!(check(all, 200), 0);
        assert_eq!(check(all, 320), 0);
        assert_eq!(check(all, 321), 1);
        assert_eq!(check(all, 4_000), 2);
        assert_eq!(check([true, true, false], 0), 1);
        assert_eq!(check([false, true, true], 200), 1);
        assert_eq!(check([true, false, false], 640), 0);
        assert_eq!(check([false; 3], 640), 1);
        assert_eq!(choose([].into_iter(), Wanted::default()), None);
    }

    #[test]
    fn reports_align_two_layers() {
        let low = Anchor { ntp: 100 << 32, timestamp: 5_000, arrived: Time::ZERO };
        let high = Anchor { ntp: (100 << 32) + (1 << 31), timestamp: 77_000, arrived: Time::ZERO };
        // Half a second apart, in both directions.
        assert_eq!(high.translate(77_000, &low, 90_000), 50_000);
        assert_eq!(low.translate(50_000, &high, 90_000), 77_000);
        assert_eq!(high.translate(77_090, &low, 90_000), 50_090);
        let later = low.at(Time::from_millis(250), 90_000);
        assert_eq!(later, ((100 << 32) + (1 << 30), 5_000 + 22_500));
    }

    #[test]
    fn the_most_needed_layer_is_asked_first_and_none_is_forgotten() {
        let mut layers: Vec<Layer> = (0..3)
            .map(|at| {
                let config = LayerConfig { ssrc: Some(at), ..LayerConfig::default() };
                let mut layer = Layer::new(Kind::Video, config);
                layer.heard = Some(Time::ZERO);
                layer
            })
            .collect();
        assert!(!needs_key_frame(&layers));
        assert_eq!(ask(&mut layers), None);
        // Ten lost their picture on layer 0, one sees nothing until layer 1 comes, one would rather see layer 2.
        let look = |layers: &mut [Layer]| {
            layers.iter_mut().for_each(Layer::count_need);
            layers[1].awaited(true);
            layers[2].awaited(false);
            (0..10).for_each(|_| layers[0].seen());
        };
        layers[0].broke();
        look(&mut layers);
        assert_eq!(ask(&mut layers), Some((0, true)));
        // Layer 0 breaks each time, yet the others come first: each was passed over, layer 1 is needed more.
        let mut asked = Vec::new();
        for _ in 0..6 {
            layers[0].broke();
            look(&mut layers);
            asked.push(ask(&mut layers));
        }
        let asked: Vec<u32> = asked.into_iter().flatten().map(|(ssrc, _)| ssrc).collect();
        assert_eq!(asked, [1, 2, 0, 1, 2, 0]);
        layers.iter_mut().for_each(Layer::key_frame_came);
        assert_eq!(ask(&mut layers), None);
        // A loss that nobody sees needs nothing.
        layers[0].broke();
        assert_eq!(ask(&mut layers), None);
        layers[0].seen();
        assert_eq!(ask(&mut layers), Some((0, false)));
    }
}
