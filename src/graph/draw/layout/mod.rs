//! A layered layout, Sugiyama's: nodes in columns so that every arc leads to the right, ordered within the columns
//! so that few arcs cross, then moved up and down until arcs are as straight as they get.
//!
//! An arc over several columns passes each by an item of its own, so that it never crosses a box.

mod layers;
mod order;
mod place;

pub(super) use layers::Grid;

/// What is to be laid out.
pub(super) struct Input<'a> {
    /// Width and height of each node.
    pub(super) sizes: &'a [(f64, f64)],
    /// From node to node, without cycles.
    pub(super) arcs: &'a [(usize, usize)],
    /// The width of the label of each arc, 0 where it has none. It is put where the arc begins.
    pub(super) labels: &'a [f64],
}

/// Where everything is. The topmost edge of a box and the left edge of the first column are at 0.
pub(super) struct Layout {
    /// The left edge of each column and its width.
    pub(super) columns: Vec<(f64, f64)>,
    /// The column of each node.
    pub(super) column_of: Vec<usize>,
    /// The height of the middle of each node.
    pub(super) middles: Vec<f64>,
    /// For each arc, the columns that it passes, with the height at which it does.
    pub(super) bends: Vec<Vec<(usize, f64)>>,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// The least space between two columns.
const GAP: f64 = 64.0;
/// What a label needs of that space beside its own width.
const LABEL_ROOM: f64 = 56.0;

/// Lays out a graph.
pub(super) fn layout(input: &Input<'_>) -> Layout {
    let mut grid = Grid::new(input.sizes.len(), input.arcs);
    order::untangle(&mut grid);
    let (heights, height) = place::heights(&grid, input.sizes);
    let columns = columns(&grid, input);
    let bends = grid
        .chains
        .iter()
        .map(|chain| {
            chain[1..chain.len() - 1].iter().map(|&item| (grid.items[item].column, heights[item])).collect()
        })
        .collect();
    let nodes = 0..input.sizes.len();
    Layout {
        width: columns.last().map_or(0.0, |(left, width)| left + width),
        column_of: nodes.clone().map(|node| grid.items[node].column).collect(),
        middles: nodes.map(|node| heights[node]).collect(),
        columns,
        bends,
        height,
    }
}

fn columns(grid: &Grid, input: &Input<'_>) -> Vec<(f64, f64)> {
    let mut left = 0.0;
    let mut columns = Vec::new();
    for (number, items) in grid.columns.iter().enumerate() {
        let width =
            items.iter().filter_map(|&item| input.sizes.get(item)).map(|size| size.0).fold(0.0, f64::max);
        columns.push((left, width));
        let begins_here = |&(arc, _): &(usize, &f64)| grid.items[input.arcs[arc].0].column == number;
        let labels = input.labels.iter().enumerate().filter(begins_here);
        let widest = labels.map(|(_, label)| *label).fold(0.0, f64::max);
        left += width + if widest > 0.0 { GAP.max(widest + LABEL_ROOM) } else { GAP };
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout_of(nodes: usize, arcs: &[(usize, usize)]) -> Layout {
        layout(&Input { sizes: &vec![(100.0, 40.0); nodes], arcs, labels: &vec![0.0; arcs.len()] })
    }

    #[test]
    fn a_chain_is_a_straight_line() {
        let layout = layout_of(3, &[(0, 1), (1, 2)]);
        assert_eq!(layout.column_of, [0, 1, 2]);
        assert_eq!(layout.middles, [20.0, 20.0, 20.0]);
        assert_eq!(layout.height, 40.0);
        assert_eq!(layout.width, 3.0 * 100.0 + 2.0 * GAP);
    }

    #[test]
    fn a_long_arc_passes_beside_the_boxes() {
        let layout = layout_of(3, &[(0, 1), (1, 2), (0, 2)]);
        let [(column, height)] = layout.bends[2][..] else { panic!("{:?}", layout.bends) };
        assert_eq!(column, 1);
        assert!((height - layout.middles[1]).abs() > 20.0, "it would cross the box");
    }

    #[test]
    fn boxes_of_a_column_do_not_overlap() {
        let arcs: Vec<_> = (1..8).flat_map(|node| [(0, node), (node, 8)]).collect();
        let layout = layout_of(9, &arcs);
        let mut middles = layout.middles[1..8].to_vec();
        middles.sort_by(f64::total_cmp);
        assert!(middles.windows(2).all(|pair| pair[1] - pair[0] >= 40.0), "{middles:?}");
    }

    #[test]
    fn nothing_needs_no_room() {
        assert_eq!(layout_of(0, &[]).width, 0.0);
    }
}
