//! The table of ratios.

/// One line of the table: one measure by one way, over all rounds.
#[derive(Debug)]
pub(super) struct Row {
    measure: &'static str,
    way: &'static str,
    unit: &'static str,
    better: Better,
    ours: Vec<f64>,
    twins: Vec<f64>,
    ratios: Vec<f64>,
}

/// Which way of the ratio is the good one, and its budget.
#[derive(Debug, Clone, Copy)]
pub(super) enum Better {
    Higher(f64),
    Lower(f64),
}

impl Row {
    pub(super) fn new(
        measure: &'static str,
        way: &'static str,
        unit: &'static str,
        better: Better,
    ) -> Self {
        let (ours, twins, ratios) = (Vec::new(), Vec::new(), Vec::new());
        Self { measure, way, unit, better, ours, twins, ratios }
    }

    /// Adds a round; round 0 warms up and does not count.
    pub(super) fn add(&mut self, round: usize, ours: f64, twin: f64) {
        eprintln!(
            "{} {} round {round}: {ours:.2} beside {twin:.2} {}",
            self.measure, self.way, self.unit
        );
        if round > 0 {
            self.ours.push(ours);
            self.twins.push(twin);
            self.ratios.push(ours / twin);
        }
    }
}

pub(super) fn print(rows: &[Row]) {
    println!(
        "{:<32} {:<20} {:>9} {:>9}      {:>7} {:>8}",
        "", "", "ours", "beside", "ratio", "budget"
    );
    for row in rows {
        let ratio = median(&row.ratios);
        let (sign, budget, kept) = match row.better {
            Better::Higher(budget) => ('≥', budget, ratio >= budget),
            Better::Lower(budget) => ('≤', budget, ratio <= budget),
        };
        println!(
            "{:<32} {:<20} {:>9.2} {:>9.2} {:<4} {ratio:>7.2} {sign:>2} {budget:>5} {}",
            row.measure,
            row.way,
            median(&row.ours),
            median(&row.twins),
            row.unit,
            if kept { "kept" } else { "MISSED" },
        );
    }
}

fn median(numbers: &[f64]) -> f64 {
    let mut numbers = numbers.to_vec();
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}
