//! The order in which the jobs of a file are created: a job is created after those that it waits for.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use crate::error::Error;
use crate::job::{JobId, Spec};
use crate::store::Store;

/// A job of the file and the jobs that it waits for.
#[derive(Default)]
pub(super) struct Node {
    pub id: Option<JobId>,
    pub after: Vec<JobId>,
    /// The path of its worktree, if that is known.
    pub worktree: Option<String>,
}

impl Node {
    pub(super) fn new(id: Option<JobId>, spec: &Spec, worktree: Option<String>) -> Self {
        Self { id, after: spec.dependencies().cloned().collect(), worktree }
    }
}

/// Returns the nodes that would work in the worktree of an earlier one without waiting for that, each
/// with the earlier one. `order`: that of their creation.
pub(super) fn worktree_conflicts(nodes: &[Node], order: &[usize]) -> Vec<(usize, usize)> {
    let mut by_id = BTreeMap::new();
    for (at, node) in nodes.iter().enumerate() {
        if let Some(id) = &node.id {
            by_id.insert(id, at);
        }
    }
    let mut conflicts = Vec::new();
    let mut users: BTreeMap<&str, usize> = BTreeMap::new();
    for at in order {
        if let Some(path) = &nodes[*at].worktree
            && let Some(earlier) = users.insert(path, *at)
            && !waits_for(nodes, &by_id, *at, earlier)
        {
            conflicts.push((*at, earlier));
        }
    }
    conflicts
}

/// Returns whether a node waits for another one, perhaps by further ones.
fn waits_for(nodes: &[Node], by_id: &BTreeMap<&JobId, usize>, at: usize, other: usize) -> bool {
    let mut seen = BTreeSet::from([at]);
    let mut open = vec![at];
    while let Some(at) = open.pop() {
        for id in &nodes[at].after {
            match by_id.get(id) {
                Some(next) if *next == other => return true,
                Some(next) if seen.insert(*next) => open.push(*next),
                _ => {}
            }
        }
    }
    false
}

/// Returns the order of the nodes, or the nodes with errors.
pub(super) fn order(store: &Store, nodes: &[Node]) -> Result<Vec<usize>, Vec<(usize, Error)>> {
    let mut by_id = BTreeMap::new();
    for (at, node) in nodes.iter().enumerate() {
        if let Some(id) = &node.id {
            by_id.insert(id.clone(), at);
        }
    }
    let mut errors = Vec::new();
    let mut reach = Reach { store, by_id: &by_id, known: BTreeMap::new() };
    // For each node the nodes that it waits for, each with the dependency that leads to it.
    let mut edges: Vec<BTreeMap<usize, JobId>> = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        let mut behind = BTreeMap::new();
        for id in &node.after {
            if let Some(other) = by_id.get(id) {
                behind.insert(*other, id.clone());
            } else if store.job(id).check().is_err() {
                errors.push((at, Error::UnknownDependency(id.to_string())));
            } else {
                for other in reach.nodes_behind(id) {
                    behind.entry(other).or_insert_with(|| id.clone());
                }
            }
        }
        edges.push(behind);
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let order = sorted(&edges);
    if order.len() == edges.len() { Ok(order) } else { Err(cycles(nodes, &edges, &order)) }
}

/// Returns the nodes without those in and behind a circle, the first ones first.
fn sorted(edges: &[BTreeMap<usize, JobId>]) -> Vec<usize> {
    let mut waiters: Vec<Vec<usize>> = vec![Vec::new(); edges.len()];
    let mut open: Vec<usize> = edges.iter().map(BTreeMap::len).collect();
    let mut ready = BinaryHeap::new();
    for (at, behind) in edges.iter().enumerate() {
        for other in behind.keys() {
            waiters[*other].push(at);
        }
        if behind.is_empty() {
            ready.push(Reverse(at));
        }
    }
    let mut order = Vec::new();
    while let Some(Reverse(at)) = ready.pop() {
        order.push(at);
        for waiter in &waiters[at] {
            open[*waiter] -= 1;
            if open[*waiter] == 0 {
                ready.push(Reverse(*waiter));
            }
        }
    }
    order
}

/// Returns the errors of the nodes that are in a circle, or between two of them.
fn cycles(
    nodes: &[Node],
    edges: &[BTreeMap<usize, JobId>],
    order: &[usize],
) -> Vec<(usize, Error)> {
    let mut left: BTreeSet<usize> = (0..nodes.len()).collect();
    for at in order {
        left.remove(at);
    }
    // Nodes that only wait for a circle.
    loop {
        let awaited: BTreeSet<usize> =
            left.iter().flat_map(|at| edges[*at].keys()).copied().collect();
        let count = left.len();
        left.retain(|at| awaited.contains(at));
        if left.len() == count {
            break;
        }
    }
    let mut errors = Vec::new();
    for at in &left {
        let first = edges[*at].iter().find(|(other, _)| left.contains(other));
        if let (Some(id), Some((_, first))) = (&nodes[*at].id, first) {
            errors.push((*at, Error::DependencyCycle(id.to_string(), first.to_string())));
        }
    }
    errors
}

/// Finds the nodes for which jobs of the jobs directory wait: a live one may wait for an id whose
/// job was removed.
struct Reach<'a> {
    store: &'a Store,
    by_id: &'a BTreeMap<JobId, usize>,
    /// The dependencies of live jobs.
    known: BTreeMap<JobId, Vec<JobId>>,
}

impl Reach<'_> {
    fn nodes_behind(&mut self, id: &JobId) -> BTreeSet<usize> {
        let mut nodes = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut open = vec![id.clone()];
        while let Some(id) = open.pop() {
            if let Some(node) = self.by_id.get(&id) {
                nodes.insert(*node);
            } else if seen.insert(id.clone()) {
                open.extend(self.dependencies(&id).iter().cloned());
            }
        }
        nodes
    }

    fn dependencies(&mut self, id: &JobId) -> &[JobId] {
        let store = self.store;
        self.known.entry(id.clone()).or_insert_with(|| match store.job(id).load() {
            // A job that has ended or is gone no longer waits for anything.
            Ok(record) if record.status.is_live() => record.spec.dependencies().cloned().collect(),
            _ => Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses nodes `ID` or `ID>ID,ID`, where `-` is a node without an id.
    fn nodes(text: &str) -> Vec<Node> {
        let mut nodes = Vec::new();
        for word in text.split_whitespace() {
            let (id, after) = word.split_once('>').unwrap_or((word, ""));
            let after = after.split(',').filter(|id| !id.is_empty());
            let after = after.map(|id| JobId::parse(id).unwrap()).collect();
            nodes.push(Node { id: JobId::parse(id).ok(), after, worktree: None });
        }
        nodes
    }

    #[test]
    fn jobs_come_after_those_that_they_wait_for() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::at(root.path().to_owned());
        for (text, expected) in [
            ("a b c", Ok(vec![0, 1, 2])),
            ("a>c b c", Ok(vec![1, 2, 0])),
            ("-.>b b>c,c c", Ok(vec![2, 1, 0])),
            ("a>b,b b", Ok(vec![1, 0])),
            ("a>a", Err(vec![0])),
            ("x a>b b>c c>a d>a", Err(vec![1, 2, 3])),
            ("a>b b>a c>d d>c e>a", Err(vec![0, 1, 2, 3])),
            ("a>nowhere b", Err(vec![0])),
        ] {
            let ordered = order(&store, &nodes(text));
            let ordered = ordered.map_err(|errors| errors.iter().map(|(at, _)| *at).collect());
            assert_eq!(ordered, expected, "{text}");
        }
    }
}
