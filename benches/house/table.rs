//! Tables as Markdown, their columns aligned for a terminal; what a bench prints can be pasted into docs/performance.md.

pub struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub fn new(head: &[&str]) -> Self {
        Self {
            head: head.iter().map(|&name| name.to_owned()).collect(),
            rows: Vec::new(),
        }
    }

    /// # Panics
    /// When a row has another number of cells than the head.
    pub fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.head.len(), "a cell for each column");
        self.rows.push(cells);
    }

    pub fn print(&self) {
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.chain([self.head[column].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let line = |cells: &[String]| {
            let padded: Vec<String> = cells
                .iter()
                .zip(&widths)
                .enumerate()
                // Names stand left, numbers right.
                .map(|(at, (cell, &width))| {
                    if at == 0 {
                        format!("{cell:<width$}")
                    } else {
                        format!("{cell:>width$}")
                    }
                })
                .collect();
            println!("| {} |", padded.join(" | "));
        };
        line(&self.head);
        let rules: Vec<String> = widths
            .iter()
            .enumerate()
            .map(|(at, &width)| {
                if at == 0 {
                    "-".repeat(width)
                } else {
                    format!("{}:", "-".repeat(width - 1))
                }
            })
            .collect();
        line(&rules);
        for row in &self.rows {
            line(row);
        }
        println!();
    }
}

/// A number with about three digits that say something.
pub fn number(value: f64) -> String {
    match value {
        value if !value.is_finite() => "-".to_owned(),
        value if value.abs() >= 100.0 => format!("{value:.0}"),
        value if value.abs() >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

/// A share as `±7 %`.
pub fn plus_minus(value: f64) -> String {
    if value.is_finite() {
        format!("±{:.0} %", value * 100.0)
    } else {
        "-".to_owned()
    }
}

/// One figure against its target. Says what is missed; nothing is decided by it.
pub fn target(name: &str, value: f64, wanted: &str, is_met: bool) {
    let word = match (value.is_finite(), is_met) {
        (false, _) => "not measured",
        (true, true) => "met",
        (true, false) => "MISSED",
    };
    println!("target  {name}: {} (wanted {wanted}): {word}", number(value));
}

/// What the figures were measured on.
pub fn machine() {
    let line = |file: &str, key: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let found = text
            .lines()
            .find(|line| line.starts_with(key))
            .unwrap_or_default()
            .to_owned();
        found.split(':').nth(1).unwrap_or_default().trim().to_owned()
    };
    let processors = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!(
        "machine: {processors} x {}, {}, Linux {}",
        line("/proc/cpuinfo", "model name"),
        line("/proc/meminfo", "MemTotal"),
        kernel.trim()
    );
    println!("time: {} (seconds since 1970)", super::params::now().as_secs());
    println!();
}
