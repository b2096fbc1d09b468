//! Columns: which node stands in which, and the items by which long arcs pass the ones between.

use crate::graph::dag::Dag;

/// Items in columns, and the segments between neighbouring ones.
pub(in crate::graph::draw) struct Grid {
    /// The nodes by their own numbers, then what long arcs pass by.
    pub(super) items: Vec<Item>,
    /// The items of each column, from top to bottom.
    pub(super) columns: Vec<Vec<usize>>,
    /// For each arc its items, from its producer to its consumer, one per column.
    pub(super) chains: Vec<Vec<usize>>,
}

/// A node, or the place at which an arc passes a column.
pub(in crate::graph::draw) struct Item {
    pub(super) column: usize,
    pub(super) is_node: bool,
    /// Items of the column before that lead here.
    pub(super) before: Vec<usize>,
    /// Items of the column after that this one leads to.
    pub(super) after: Vec<usize>,
}

impl Grid {
    pub(super) fn new(nodes: usize, arcs: &[(usize, usize)]) -> Self {
        let item = |column, is_node| Item { column, is_node, before: Vec::new(), after: Vec::new() };
        let mut items: Vec<Item> = layers(nodes, arcs).into_iter().map(|column| item(column, true)).collect();
        let mut chains = Vec::new();
        for &(from, to) in arcs {
            let mut chain = vec![from];
            for column in items[from].column + 1..items[to].column {
                items.push(item(column, false));
                chain.push(items.len() - 1);
            }
            chain.push(to);
            for pair in chain.windows(2) {
                items[pair[0]].after.push(pair[1]);
                items[pair[1]].before.push(pair[0]);
            }
            chains.push(chain);
        }
        let columns = columns(&items);
        Self { items, columns, chains }
    }
}

/// The column of each node: as far left as its producers allow; but what nothing feeds stands directly before its
/// first consumer.
fn layers(nodes: usize, arcs: &[(usize, usize)]) -> Vec<usize> {
    let mut layers = vec![0; nodes];
    let order = Dag::new(nodes, arcs).order();
    let mut after = vec![Vec::new(); nodes];
    let mut is_fed = vec![false; nodes];
    for &(from, to) in arcs {
        after[from].push(to);
        is_fed[to] = true;
    }
    for &node in &order {
        for &next in &after[node] {
            layers[next] = layers[next].max(layers[node] + 1);
        }
    }
    for &node in order.iter().filter(|&&node| !is_fed[node]) {
        if let Some(first) = after[node].iter().map(|&next| layers[next]).min() {
            layers[node] = first - 1;
        }
    }
    layers
}

/// The items of each column in the order in which a walk along the arcs comes to them, which keeps together what
/// belongs together.
fn columns(items: &[Item]) -> Vec<Vec<usize>> {
    let count = items.iter().map(|item| item.column + 1).max().unwrap_or(0);
    let mut columns = vec![Vec::new(); count];
    let mut is_seen = vec![false; items.len()];
    let starts = (0..items.len()).filter(|&item| items[item].before.is_empty());
    for start in starts {
        let mut stack = vec![start];
        while let Some(item) = stack.pop() {
            if !std::mem::replace(&mut is_seen[item], true) {
                columns[items[item].column].push(item);
                stack.extend(items[item].after.iter().rev());
            }
        }
    }
    columns
}
