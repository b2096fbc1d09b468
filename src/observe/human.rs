//! Numbers as people read them.

use std::time::Duration;

/// A count in full, with its thousands apart: `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count in at most five characters, for a place that changes all the time: `950`, `12.3k`, `4.56M`.
pub fn short_count(number: f64) -> String {
    const UNITS: [&str; 6] = ["", "k", "M", "G", "T", "P"];
    let (scaled, unit) = scale(number, 1000.0, &UNITS);
    match unit {
        "" if scaled < 9.95 && scaled.fract() >= 0.05 => format!("{scaled:.1}"),
        "" => format!("{scaled:.0}"),
        unit => format!("{}{unit}", three_digits(scaled)),
    }
}

/// A size: `0 B`, `512 B`, `1.93 MiB`.
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let (scaled, unit) = scale(number as f64, 1024.0, &UNITS);
    if unit == "B" { format!("{number} B") } else { format!("{} {unit}", three_digits(scaled)) }
}

/// A time that has passed: `0 ms`, `2.10 ms`, `1.23 s`, `2m 03s`, `1h 04m`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if time.is_zero() {
        "0 s".to_owned()
    } else if seconds < 0.9995 {
        format!("{} ms", three_digits(seconds * 1e3))
    } else if seconds < 99.95 {
        format!("{} s", three_digits(seconds))
    } else {
        let whole = seconds.round() as u64;
        if whole < 3600 {
            format!("{}m {:02}s", whole / 60, whole % 60)
        } else {
            format!("{}h {:02}m", whole / 3600, whole % 3600 / 60)
        }
    }
}

/// The number in the largest unit in which it is at least 1; rounding to three digits never makes a full unit.
fn scale<'a>(number: f64, step: f64, units: &[&'a str]) -> (f64, &'a str) {
    let (mut scaled, mut position) = (number, 0);
    while scaled >= step * 0.9995 && position + 1 < units.len() {
        scaled /= step;
        position += 1;
    }
    (scaled, units[position])
}

/// Three digits and the point among them where there is room: `1.23`, `12.3`, `123`.
fn three_digits(number: f64) -> String {
    match number {
        n if n < 9.995 => format!("{n:.2}"),
        n if n < 99.95 => format!("{n:.1}"),
        n => format!("{n:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_their_thousands_apart() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1000), "1,000");
        assert_eq!(count(1_234_567), "1,234,567");
    }

    #[test]
    fn short_counts_stay_short() {
        let shown: Vec<_> =
            [0.0, 0.4, 7.0, 950.0, 999.9, 12_345.0, 999_999.0, 4.56e6, 1e12].map(short_count).into();
        assert_eq!(shown, ["0", "0.4", "7", "950", "1.00k", "12.3k", "1.00M", "4.56M", "1.00T"]);
        assert!(shown.iter().all(|text| text.len() <= 5));
    }

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(
            [0, 512, 1024, 2 << 20, 1_048_575].map(bytes),
            ["0 B", "512 B", "1.00 KiB", "2.00 MiB", "1.00 MiB"]
        );
    }

    #[test]
    fn times_have_the_unit_that_fits() {
        let shown = [0, 2_100, 999_900, 1_234_000, 59_990_000, 123_000_000, 3_840_000_000]
            .map(|micros| duration(Duration::from_micros(micros)));
        assert_eq!(shown, ["0 s", "2.10 ms", "1.00 s", "1.23 s", "60.0 s", "2m 03s", "1h 04m"]);
    }
}
