//! Heights: each item as near to the middle of its neighbours as its column allows.

use super::layers::Grid;

/// Enough for chains of the length that fits on a screen to become straight.
const SWEEPS: usize = 60;
/// The height of an arc where it passes a column.
const WIRE: f64 = 10.0;

/// The height of each item's middle, the topmost edge being at 0, and the height of all.
pub(super) fn heights(grid: &Grid, sizes: &[(f64, f64)]) -> (Vec<f64>, f64) {
    let size = |item: usize| sizes.get(item).map_or(WIRE, |size| size.1);
    let mut middles = vec![0.0; grid.items.len()];
    for column in &grid.columns {
        let offsets = offsets(grid, column, &size);
        for (&item, offset) in column.iter().zip(offsets) {
            middles[item] = offset;
        }
    }
    for sweep in 0..SWEEPS {
        for step in 0..grid.columns.len() {
            let number = if sweep % 2 == 0 { step } else { grid.columns.len() - 1 - step };
            settle(grid, &grid.columns[number], &size, &mut middles);
        }
    }
    let top = (0..middles.len()).map(|item| middles[item] - size(item) / 2.0).fold(f64::INFINITY, f64::min);
    for middle in &mut middles {
        // Whole pixels keep the lines crisp.
        *middle = (*middle - top).round();
    }
    let bottom = (0..middles.len()).map(|item| middles[item] + size(item) / 2.0).fold(0.0, f64::max);
    (middles, bottom)
}

/// The space between two neighbours of a column.
fn space(grid: &Grid, upper: usize, lower: usize) -> f64 {
    match (grid.items[upper].is_node, grid.items[lower].is_node) {
        (true, true) => 30.0,
        (false, false) => 12.0,
        _ => 22.0,
    }
}

/// The least height of each item of a column, the first being at 0.
fn offsets(grid: &Grid, column: &[usize], size: &impl Fn(usize) -> f64) -> Vec<f64> {
    let mut offset = 0.0;
    let mut offsets = Vec::with_capacity(column.len());
    for (position, &item) in column.iter().enumerate() {
        if position > 0 {
            let upper = column[position - 1];
            offset += (size(upper) + size(item)) / 2.0 + space(grid, upper, item);
        }
        offsets.push(offset);
    }
    offsets
}

/// Moves the items of one column to where they want to be, as far as their order and sizes allow. That is a
/// regression to a rising sequence: neighbours that want to overlap are merged and stand at their common mean.
fn settle(grid: &Grid, column: &[usize], size: &impl Fn(usize) -> f64, middles: &mut [f64]) {
    let offsets = offsets(grid, column, size);
    // Sum of weighted wishes, sum of weights, members.
    let mut blocks: Vec<(f64, f64, usize)> = Vec::new();
    for (&item, offset) in column.iter().zip(&offsets) {
        let (wish, weight) = wish(grid, item, middles);
        blocks.push(((wish - offset) * weight, weight, 1));
        while let [.., (a_sum, a_weight, a_count), (b_sum, b_weight, b_count)] = blocks[..] {
            if a_sum / a_weight <= b_sum / b_weight {
                break;
            }
            blocks.truncate(blocks.len() - 2);
            blocks.push((a_sum + b_sum, a_weight + b_weight, a_count + b_count));
        }
    }
    let mut members = column.iter().zip(&offsets);
    for (sum, weight, count) in blocks {
        for (&item, offset) in members.by_ref().take(count) {
            middles[item] = sum / weight + offset;
        }
    }
}

/// Where an item wants to be, and how much it does. Long edges want most to be straight, then those that are the
/// only one at either end: a line is seen to bend, a fan has to.
fn wish(grid: &Grid, item: usize, middles: &[f64]) -> (f64, f64) {
    let this = &grid.items[item];
    let pull = |other: usize| match (this.is_node, grid.items[other].is_node) {
        (true, true) if is_only(grid, item, other) => 4.0,
        (true, true) => 1.0,
        (false, false) => 8.0,
        _ => 2.0,
    };
    let mut sum = 0.0;
    let mut weight = 0.0;
    for &other in this.before.iter().chain(&this.after) {
        sum += pull(other) * middles[other];
        weight += pull(other);
    }
    if weight > 0.0 { (sum / weight, weight) } else { (middles[item], 0.1) }
}

/// Whether the one thing that two neighbours are joined to on these sides is each other.
fn is_only(grid: &Grid, item: usize, other: usize) -> bool {
    let (left, right) =
        if grid.items[item].column < grid.items[other].column { (item, other) } else { (other, item) };
    grid.items[left].after.len() == 1 && grid.items[right].before.len() == 1
}
