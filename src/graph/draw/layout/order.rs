//! The order within the columns: fewer crossings.

use super::layers::{Grid, Item};

/// Sweeps to and fro; more have not helped in any graph tried.
const SWEEPS: usize = 16;
/// Items moved in all sweeps together: in a graph of thousands of stages nobody follows a single line.
const BUDGET: usize = 400_000;
/// Passes of swaps in one sweep; the next sweep goes on with it.
const PASSES: usize = 8;

/// Orders each column by the middle of what its items are joined to, to the left and to the right in turn, then
/// swaps neighbours as long as that helps, and keeps the best order seen.
pub(super) fn untangle(grid: &mut Grid) {
    let mut best = grid.columns.clone();
    let mut fewest = crossings(grid);
    for sweep in 0..SWEEPS.min(BUDGET / (grid.items.len() + 1) + 1) {
        if fewest == 0 {
            break;
        }
        sweep_once(grid, sweep % 2 == 0);
        swap_neighbours(grid);
        let count = crossings(grid);
        if count < fewest {
            fewest = count;
            best.clone_from(&grid.columns);
        }
    }
    grid.columns = best;
}

/// The position of each item in its column.
fn positions(grid: &Grid) -> Vec<usize> {
    let mut positions = vec![0; grid.items.len()];
    for column in &grid.columns {
        for (position, &item) in column.iter().enumerate() {
            positions[item] = position;
        }
    }
    positions
}

fn sweep_once(grid: &mut Grid, to_the_right: bool) {
    let mut positions = positions(grid);
    let count = grid.columns.len();
    for step in 0..count {
        let number = if to_the_right { step } else { count - 1 - step };
        let neighbours = |item: &usize| {
            let item: &Item = &grid.items[*item];
            if to_the_right { &item.before } else { &item.after }
        };
        let mut column: Vec<(f64, usize)> = grid.columns[number]
            .iter()
            .map(|item| (mean(neighbours(item), &positions).unwrap_or(positions[*item] as f64), *item))
            .collect();
        // Stable, so that equals keep their order.
        column.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (position, &(_, item)) in column.iter().enumerate() {
            positions[item] = position;
            grid.columns[number][position] = item;
        }
    }
}

fn mean(items: &[usize], positions: &[usize]) -> Option<f64> {
    let sum: usize = items.iter().map(|&item| positions[item]).sum();
    (!items.is_empty()).then(|| sum as f64 / items.len() as f64)
}

fn swap_neighbours(grid: &mut Grid) {
    let positions = positions(grid);
    for column in &mut grid.columns {
        for _ in 0..PASSES.min(column.len()) {
            let mut is_better = false;
            for upper in 1..column.len() {
                let (a, b) = (column[upper - 1], column[upper]);
                let (a_item, b_item) = (&grid.items[a], &grid.items[b]);
                let now = pair_crossings(a_item, b_item, &positions);
                if pair_crossings(b_item, a_item, &positions) < now {
                    column.swap(upper - 1, upper);
                    is_better = true;
                }
            }
            if !is_better {
                break;
            }
        }
    }
}

/// How often the arcs of two neighbours cross, `upper` being above `lower`.
fn pair_crossings(upper: &Item, lower: &Item, positions: &[usize]) -> usize {
    let count = |upper: &[usize], lower: &[usize]| {
        let pairs = upper.iter().flat_map(|u| lower.iter().map(move |l| (positions[*u], positions[*l])));
        pairs.filter(|(u, l)| u > l).count()
    };
    count(&upper.before, &lower.before) + count(&upper.after, &lower.after)
}

/// How often arcs cross between all columns.
fn crossings(grid: &Grid) -> usize {
    let positions = positions(grid);
    grid.columns.iter().map(|column| column_crossings(grid, column, &positions)).sum()
}

/// How often arcs cross to the right of a column: inversions, counted in a Fenwick tree.
fn column_crossings(grid: &Grid, column: &[usize], positions: &[usize]) -> usize {
    let mut ends = Vec::new();
    for &item in column {
        let mut own: Vec<usize> = grid.items[item].after.iter().map(|&next| positions[next]).collect();
        own.sort_unstable();
        ends.extend(own);
    }
    let mut tree = vec![0usize; ends.iter().max().map_or(0, |max| max + 2)];
    let mut crossings = 0;
    for (seen, &end) in ends.iter().enumerate() {
        let mut not_above = 0;
        let mut node = end + 1;
        while node > 0 {
            not_above += tree[node];
            node &= node - 1;
        }
        crossings += seen - not_above;
        let mut node = end + 1;
        while node < tree.len() {
            tree[node] += 1;
            node += node & node.wrapping_neg();
        }
    }
    crossings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crossings_are_counted() {
        let mut grid = Grid::new(4, &[(0, 3), (1, 2)]);
        grid.columns = vec![vec![0, 1], vec![2, 3]];
        assert_eq!(crossings(&grid), 1);
        grid.columns = vec![vec![0, 1], vec![3, 2]];
        assert_eq!(crossings(&grid), 0);
    }

    #[test]
    fn a_planar_graph_is_untangled() {
        // Three parallel chains, named so that their first order crosses.
        let arcs = [(0, 5), (1, 4), (2, 3), (3, 6), (4, 7), (5, 8), (0, 8)];
        let mut grid = Grid::new(9, &arcs);
        grid.columns[1].reverse();
        untangle(&mut grid);
        assert_eq!(crossings(&grid), 0);
    }
}
