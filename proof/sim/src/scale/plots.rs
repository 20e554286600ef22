//! The report's figures as SVG.

use std::{ops::Range, path::Path};

use anyhow::Context as _;
use plotters::{
    coord::{Shift, types::RangedCoordf64},
    prelude::*,
};

use super::{
    growth::{METRICS, Series},
    outcome::{Named, Outcome, REST, Rates},
};

const SIZE: (u32, u32) = (960, 540);
/// Colours that people with any colour vision tell apart (Okabe, Ito), and a few more.
const COLOURS: [RGBColor; 11] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
    RGBColor(120, 120, 120),
    RGBColor(140, 86, 75),
    RGBColor(100, 60, 150),
    RGBColor(170, 170, 170),
];

/// One line.
struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

/// What the axes say. Both are linear; who wants logarithms gives logarithms, and a text for each.
struct Axes<'a> {
    title: &'a str,
    x: (&'a str, Range<f64>, fn(&f64) -> String),
    y: (&'a str, Range<f64>, fn(&f64) -> String),
    legend: SeriesLabelPosition,
}

/// Who is back when, beside the same loss with `other`'s pace.
pub(super) fn rejoin(path: &Path, outcome: &Outcome, other: &Outcome) -> anyhow::Result<()> {
    let thousands = |outcome: &Outcome| {
        outcome.curve.iter().map(|(at, back)| (*at, *back as f64 / 1e3)).collect()
    };
    let pace = other.scale.tell_per_second;
    let lines = [
        Line { name: "pace of the nodes that are left".into(), points: thousands(outcome) },
        Line { name: format!("{pace} a second and gateway"), points: thousands(other) },
    ];
    let axes = Axes {
        title: "People who lost their node and are back in their room",
        x: ("seconds after the loss", 0.0..other.back_after[3].max(outcome.back_after[3]), plain),
        y: ("thousand people", 0.0..other.back.max(outcome.back) as f64 * 1.05e-3, plain),
        legend: SeriesLabelPosition::LowerRight,
    };
    draw(path, &axes, &lines)
}

/// How many people each surviving node has.
pub(super) fn spread(path: &Path, outcome: &Outcome) -> anyhow::Result<()> {
    let nodes = outcome.spread.len() as f64;
    let most = f64::from(outcome.spread.last().copied().unwrap_or(0));
    let mean = outcome.spread.iter().map(|count| f64::from(*count)).sum::<f64>() / nodes;
    let before = (outcome.scale.clients / outcome.scale.nodes) as f64;
    let each = outcome.spread.iter().enumerate();
    let lines = [
        Line {
            name: "after the loss".into(),
            points: each.map(|(n, count)| (n as f64, f64::from(*count))).collect(),
        },
        Line { name: format!("its mean, {mean:.0}"), points: vec![(0.0, mean), (nodes, mean)] },
        Line {
            name: format!("before the loss, {before:.0}"),
            points: vec![(0.0, before), (nodes, before)],
        },
    ];
    let axes = Axes {
        title: "Participants of each surviving node, the least loaded first",
        x: ("nodes", 0.0..nodes, plain),
        y: ("participants", 0.0..most * 1.1, plain),
        legend: SeriesLabelPosition::LowerRight,
    };
    draw(path, &axes, &lines)
}

/// What a gateway handles, second by second.
pub(super) fn messages(path: &Path, outcome: &Outcome) -> anyhow::Result<()> {
    let kinds: [Named<Rates>; 6] = [
        ("beats in, and as many echoes out", |rates| rates.beats),
        ("joins and resumes of clients", |rates| rates.asks),
        ("clients told to reconnect", |rates| rates.told),
        ("frames of room streams", |rates| rates.frames),
        ("calls of the directory", |rates| rates.calls),
        ("outlooks in, and as many out", |rates| rates.outlooks),
    ];
    let rest = outcome.seconds.len() as f64 - after(outcome);
    let lines = kinds.map(|(name, rate)| Line {
        name: name.to_owned(),
        points: (outcome.seconds.iter().enumerate())
            // Nothing at all is drawn on the axis.
            .map(|(second, rates)| (second as f64 + 1.0 - rest, rate(rates).max(1.0).log10()))
            .collect(),
    });
    let most = lines.iter().flat_map(|line| &line.points).map(|(_, y)| *y).fold(0.0, f64::max);
    let axes = Axes {
        title: "Messages a second of one gateway, mean of those that survive",
        x: ("seconds after the loss", 1.0 - rest..after(outcome) * 1.45, plain),
        y: ("a second", 0.0..most.ceil(), power_of_ten),
        legend: SeriesLabelPosition::UpperRight,
    };
    draw(path, &axes, &lines)
}

fn after(outcome: &Outcome) -> f64 {
    outcome.seconds.len() as f64 - REST.as_secs_f64()
}

/// What grows how with one size; everything relative to the full size.
pub(super) fn growth(path: &Path, series: &Series) -> anyhow::Result<()> {
    let Series { varied, points, exponents, full } = series;
    let of_full = points.iter().find(|(size, _)| size == full).map(|(_, outcome)| outcome);
    let of_full = of_full.context("the full size is a point")?;
    let factor = |size: &usize| (*size as f64 / *full as f64).log2();
    let mut lines: Vec<Line> = METRICS
        .iter()
        .zip(exponents)
        .map(|((name, metric), (_, exponent))| Line {
            name: format!("{name}: power {exponent:.2}"),
            points: (points.iter())
                .map(|(size, it)| (factor(size), (metric(it) / metric(of_full)).log2()))
                .collect(),
        })
        .collect();
    let ends = points.iter().map(|(size, _)| factor(size));
    let (least, most) = ends.fold((0.0_f64, 0.0_f64), |(a, b), x| (a.min(x), b.max(x)));
    lines.push(Line { name: "linear".into(), points: vec![(least, least), (most, most)] });
    let all = || lines.iter().flat_map(|line| &line.points).map(|(_, y)| *y);
    let axes = Axes {
        title: &format!("What grows with the number of {varied}, which is {full} at full size"),
        x: (&format!("{varied}, in times of the full size"), least..most, times),
        // The legend has its place above the lines.
        y: (
            "in times of the value at full size",
            all().fold(0.0, f64::min) - 0.2..all().fold(0.0, f64::max) * 2.0 + 3.5,
            times,
        ),
        legend: SeriesLabelPosition::UpperLeft,
    };
    draw(path, &axes, &lines)
}

fn plain(value: &f64) -> String {
    format!("{value:.0}")
}

fn power_of_ten(power: &f64) -> String {
    if power.fract().abs() > 1e-6 { String::new() } else { plain(&10_f64.powf(*power)) }
}

fn times(power: &f64) -> String {
    if power.fract().abs() > 1e-6 {
        return String::new();
    }
    if *power < 0.0 { format!("1/{:.0}", 2_f64.powf(-power)) } else { plain(&2_f64.powf(*power)) }
}

fn draw(path: &Path, axes: &Axes<'_>, lines: &[Line]) -> anyhow::Result<()> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    // The backend's own error names neither file nor cause well enough to be kept as a source.
    let drawn = root.fill(&WHITE).map_err(|e| anyhow::anyhow!("{e}"));
    drawn
        .and_then(|()| fill(&root, axes, lines))
        .with_context(|| format!("drawing {}", path.display()))
}

fn fill(
    root: &DrawingArea<SVGBackend<'_>, Shift>,
    axes: &Axes<'_>,
    lines: &[Line],
) -> anyhow::Result<()> {
    let says = |e: DrawingAreaErrorKind<_>| anyhow::anyhow!("{e}");
    let (x, y) = (&axes.x, &axes.y);
    let mut chart: ChartContext<'_, _, Cartesian2d<RangedCoordf64, RangedCoordf64>> =
        ChartBuilder::on(root)
            .caption(axes.title, ("sans-serif", 20))
            .margin(16)
            .x_label_area_size(48)
            .y_label_area_size(72)
            .build_cartesian_2d(x.1.clone(), y.1.clone())
            .map_err(says)?;
    chart
        .configure_mesh()
        .x_desc(x.0)
        .y_desc(y.0)
        .x_label_formatter(&x.2)
        .y_label_formatter(&y.2)
        .label_style(("sans-serif", 14))
        .axis_desc_style(("sans-serif", 15))
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.12))
        .draw()
        .map_err(says)?;
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let style = ShapeStyle::from(colour).stroke_width(2);
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), style))
            .map_err(says)?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], style));
    }
    chart
        .configure_series_labels()
        .position(axes.legend.clone())
        .label_font(("sans-serif", 14))
        .legend_area_size(28)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.25))
        .draw()
        .map_err(says)?;
    root.present().map_err(says)
}
