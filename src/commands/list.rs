//! `list`: lists the jobs, newest first.

mod columns;
mod item;
mod short_item;
mod shorten;
mod text;
mod watch;

use std::cell::OnceCell;
use std::cmp::Ordering;

use clap::Args;
use serde::Serialize;

use super::Call;
use super::engine_jobs::Ask;
use super::observe::observe_unless_loaded;
use super::status::{QueueView, status_view_in_queue, undelivered};
use crate::arguments::{FilterArgs, Format};
use crate::error::{Error, ExitStatus};
use crate::job::{Filter, JobId, Status, Timestamp};
use crate::store::{Address, EndedJob, Listed, LoadError, LoadedJob, Store, Summaries};
use columns::ListColumn;
use short_item::{ItemSize, Shortened};

pub(crate) use item::Item;

/// Number of ended jobs that are shown by default.
const MAX_RECENT: usize = 20;

/// Arguments of `list`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  claudejob list --status failed --label project=app\n  \
    claudejob list --since 24h --sort cost -n 5    most expensive of the last day\n\n\
    Jobs without a value in the sort column come last, with --reverse as well.")]
pub(crate) struct ListArgs {
    /// List every job, not just the live and last 20 ended ones
    #[arg(short, long)]
    all: bool,
    /// Select jobs with undelivered notifications
    #[arg(long)]
    undelivered: bool,
    #[command(flatten)]
    filter: FilterArgs,
    /// List at most N jobs
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Sort the jobs
    #[arg(long, value_name = "BY", value_enum, default_value = "started")]
    sort: Order,
    /// Reverse the order
    #[arg(short, long)]
    reverse: bool,
    #[command(flatten)]
    view: ViewArgs,
}

/// How the list is shown as text.
#[derive(Debug, Args)]
struct ViewArgs {
    /// Show these columns, such as job,cost,model
    #[arg(long, value_name = "NAMES", value_enum, value_delimiter = ',', ignore_case = true)]
    columns: Vec<ListColumn>,
    /// Update the list until Ctrl-C
    #[arg(short, long)]
    watch: bool,
}

/// Order of a list. Equal jobs are ordered newest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Order {
    /// Latest start first
    #[default]
    Started,
    /// Latest end first
    Ended,
    /// Highest cost first
    Cost,
    /// Most turns first
    Turns,
    /// Live jobs first, in the order of a job's life
    Status,
    /// Alphabetical order
    Id,
}

impl ListArgs {
    pub(crate) fn run(self, call: &Call) -> Result<ExitStatus, Error> {
        let store = call.store()?;
        if self.view.watch {
            return watch::watch(call, &store, self);
        }
        if !self.view.columns.is_empty() && !call.printer.is_text() {
            return Err(Error::Arguments {
                message: "--columns chooses columns of text".to_owned(),
                hint: "add --plain".to_owned(),
            });
        }
        call.print(&list(&store, &self, &ListForm::new(call, &self))?)
    }
}

/// The form of the answer to a call.
struct ListForm {
    format: Format,
    /// The maximum number of characters.
    bound: Option<usize>,
    /// The same call without a limit of the answer's length.
    next: String,
}

impl ListForm {
    fn new(call: &Call, args: &ListArgs) -> Self {
        let format = call.printer.format();
        let bound = call.bound_unless(args.all || format == Format::Quiet);
        Self { format, bound, next: call.whole() }
    }
}

impl ViewArgs {
    /// Returns the columns of the text.
    fn shown_columns(&self, is_wide: bool) -> Vec<ListColumn> {
        match (self.columns.as_slice(), is_wide) {
            ([], true) => ListColumn::WIDE.to_vec(),
            ([], false) => ListColumn::USUAL.to_vec(),
            (columns, _) => columns.to_vec(),
        }
    }
}

/// The list. The summary of an ended job is decoded only when the job is shown, so that a long
/// list takes little memory.
#[derive(Debug)]
pub(crate) struct ListAnswer {
    store: Store,
    address: Address,
    summaries: Summaries,
    rows: Vec<Row>,
    size: ItemSize,
    /// The index of the first job that shows only its name.
    names_from: usize,
    /// The same call without a limit of the answer's length.
    next: String,
    /// There are jobs, even if none is selected.
    pub has_jobs: bool,
    /// Number of jobs that are left out to keep the answer short.
    pub omitted: usize,
    /// Number of jobs that are not shown by default or because of a limit.
    older: usize,
    /// The call itself selects or limits the jobs.
    is_limited: bool,
    /// The columns of the text.
    columns: Vec<ListColumn>,
}

impl ListAnswer {
    /// Returns the jobs in order.
    pub(crate) fn items(&self) -> impl Iterator<Item = Item> {
        self.rows.iter().filter_map(|row| self.item(row))
    }

    /// Returns the ids of the jobs in order.
    fn ids(&self) -> Vec<JobId> {
        self.rows.iter().map(|row| row.id.clone()).collect()
    }

    /// Returns a job; `None` if it was removed after its name was read.
    fn item(&self, row: &Row) -> Option<Item> {
        let mut item = match &row.source {
            Source::Item(item) => Item::clone(item),
            Source::Summary(ended) => match self.summaries.get(ended) {
                Some(summary) => Item::from_summary(summary),
                None => load_item(&self.store, &row.id, false, &OnceCell::new(), None)?,
            },
        };
        item.hint = item.hint.map(|hint| self.address.apply(hint));
        if let Some(wait) = item.waiting_for {
            item.waiting_for = Some(wait.map_hint(|hint| self.address.apply(hint)));
        }
        Some(item)
    }
}

#[cfg(test)]
impl schemars::JsonSchema for ListAnswer {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ListAnswer".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let element = [
            generator.subschema_for::<Item>(),
            generator.subschema_for::<short_item::ShortItem>(),
            generator.subschema_for::<shorten::Omitted>(),
        ];
        schemars::json_schema!({
            "description": "The jobs, in the order asked for.",
            "type": "array",
            "items": { "anyOf": element },
        })
    }
}

impl Serialize for ListAnswer {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeSeq;
        let mut list = serializer.serialize_seq(None)?;
        for (index, row) in self.rows.iter().enumerate() {
            let size = if index < self.names_from { self.size } else { ItemSize::Name };
            let Some(item) = self.item(row) else { continue };
            let item = item.shortened(size, &self.address);
            match size {
                ItemSize::Full => list.serialize_element(&item)?,
                _ => list.serialize_element(&Shortened(&item))?,
            }
        }
        if self.omitted > 0 {
            list.serialize_element(&self.omission())?;
        }
        list.end()
    }
}

/// Loads and checks a job; returns `None` if it was removed after its name was read.
fn load_item(
    store: &Store,
    id: &JobId,
    with_notifications: bool,
    queue: &OnceCell<QueueView>,
    loaded: Option<LoadedJob>,
) -> Option<Item> {
    let observed = match observe_unless_loaded(store, id, loaded) {
        Err(LoadError::NotFound(_)) => return None,
        Err(error) => return Some(Item::unreadable(id.clone(), &error.to_string())),
        Ok(observed) => observed,
    };
    let notifications = if with_notifications {
        undelivered(store, &observed.dir, &observed.record)
    } else {
        Vec::new()
    };
    let view = status_view_in_queue(store, &observed.record, queue, Ask::Many);
    let mut record = observed.record;
    if record.status.is_live()
        && !view.status.is_live()
        && let Ok(ended) = observed.dir.load()
    {
        // Its engine has lost it, and the view has brought about its verdict.
        record = ended;
    }
    let mut item = Item::from_record(record, view);
    item.undelivered.clone_from(&notifications);
    item.undelivered_notifications = notifications;
    Some(item)
}

/// A job of the list, with the values that decide its position.
#[derive(Clone, Debug)]
struct Row {
    id: JobId,
    status: Option<Status>,
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
    /// `None`, as `turns`, if the job has ended and its summary was not needed to select and order
    /// it.
    cost: Option<f64>,
    turns: Option<u64>,
    source: Source,
}

/// Where the values of a job come from.
#[derive(Clone, Debug)]
enum Source {
    /// The summary of an ended job.
    Summary(EndedJob),
    /// The loaded and checked record.
    Item(Box<Item>),
}

impl Row {
    fn from_item(id: JobId, item: Item) -> Self {
        Self {
            id,
            status: item.status,
            started: item.started_at,
            ended: item.ended_at,
            cost: item.cost_usd,
            turns: if item.status.is_some() { Some(item.num_turns) } else { None },
            source: Source::Item(Box::new(item)),
        }
    }

    fn is_ended(&self) -> bool {
        self.status.is_some_and(|status| !status.is_live())
    }
}

/// Lists the jobs.
fn list(store: &Store, args: &ListArgs, form: &ListForm) -> Result<ListAnswer, Error> {
    let (summaries, jobs) = store.summaries_with_records()?;
    let has_jobs = !jobs.is_empty();
    let filter = args.filter.clone().into_filter();
    let selects = !filter.is_empty() || args.undelivered || args.limit.is_some();
    let selection = Selection {
        store,
        summaries,
        queue: OnceCell::new(),
        // For other orders, the values of each job are needed.
        has_order_of_times: !matches!(args.sort, Order::Cost | Order::Turns),
        filter,
        undelivered: args.undelivered,
    };
    let mut rows: Vec<Row> = jobs.into_iter().filter_map(|job| selection.row(job)).collect();
    rows.sort_unstable_by(newest_first);
    let found = rows.len();
    if !args.all && !selects {
        keep_recent(&mut rows);
    }
    let mut older = found - rows.len();
    args.sort.sort(&mut rows, args.reverse);
    if let Some(limit) = args.limit {
        let all = rows.len();
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        older += all - rows.len();
    }
    let mut answer = ListAnswer {
        store: store.clone(),
        address: Address::of(store.root()),
        size: ItemSize::Full,
        names_from: usize::MAX,
        summaries: selection.summaries,
        rows,
        next: form.next.clone(),
        has_jobs,
        omitted: 0,
        older,
        is_limited: selects,
        columns: args.view.shown_columns(form.format == Format::Wide),
    };
    if let Some(bound) = form.bound {
        answer.shorten(bound);
    }
    Ok(answer)
}

fn newest_first(a: &Row, b: &Row) -> Ordering {
    b.started.cmp(&a.started).then_with(|| b.id.cmp(&a.id))
}

impl Order {
    /// Sorts jobs, which are given newest first. Jobs that lack the value are last.
    fn sort(self, rows: &mut [Row], reverse: bool) {
        if self == Self::Started && !reverse {
            return;
        }
        // The sort is stable: equal jobs stay newest first.
        rows.sort_by(|a, b| match self {
            Self::Started => compare(a.started, b.started, reverse, |a, b| b.cmp(a)),
            Self::Ended => compare(a.ended, b.ended, reverse, |a, b| b.cmp(a)),
            Self::Cost => compare(a.cost, b.cost, reverse, |a, b| b.total_cmp(a)),
            Self::Turns => compare(a.turns, b.turns, reverse, |a, b| b.cmp(a)),
            Self::Status => compare(a.status, b.status, reverse, Ord::cmp),
            Self::Id => compare(Some(&a.id), Some(&b.id), reverse, Ord::cmp),
        });
    }
}

fn compare<T>(a: Option<T>, b: Option<T>, reverse: bool, by: fn(&T, &T) -> Ordering) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) if reverse => by(&b, &a),
        (Some(a), Some(b)) => by(&a, &b),
        (a, b) => b.is_some().cmp(&a.is_some()),
    }
}

/// Selects jobs and reads what the list needs of them.
struct Selection<'a> {
    store: &'a Store,
    summaries: Summaries,
    queue: OnceCell<QueueView>,
    filter: Filter,
    /// Only jobs with undelivered notifications.
    undelivered: bool,
    /// The status and the times of an ended job suffice to order it.
    has_order_of_times: bool,
}

impl Selection<'_> {
    /// Returns the job's row if the job is selected.
    fn row(&self, Listed { id, ended, loaded }: Listed) -> Option<Row> {
        let Some(ended) = ended else { return self.loaded_row(id, loaded) };
        if self.has_order_of_times && self.filter.has_only_times() && !self.undelivered {
            if !self.filter.matches_times(Some(ended.status), ended.started_at) {
                return None;
            }
            return Some(Row {
                id,
                status: Some(ended.status),
                started: ended.started_at,
                ended: ended.ended_at,
                cost: None,
                turns: None,
                source: Source::Summary(ended),
            });
        }
        let Some(summary) = self.summaries.get(&ended) else { return self.loaded_row(id, None) };
        if self.undelivered && summary.has_recipients() {
            return self.loaded_row(id, None);
        }
        if self.undelivered || !self.filter.matches(&summary) {
            return None;
        }
        let row = Row::from_item(id, Item::from_summary(summary));
        Some(Row { source: Source::Summary(ended), ..row })
    }

    fn loaded_row(&self, id: JobId, loaded: Option<Box<LoadedJob>>) -> Option<Row> {
        let loaded = loaded.map(|loaded| *loaded);
        let item = load_item(self.store, &id, self.undelivered, &self.queue, loaded)?;
        let is_delivered = item.undelivered_notifications.is_empty();
        let is_selected = self.filter.matches_times(item.status, item.started_at)
            && self.filter.matches_spec(&item.labels, item.group.as_deref())
            && !(self.undelivered && is_delivered);
        if is_selected { Some(Row::from_item(id, item)) } else { None }
    }
}

/// Keeps the live and the unreadable jobs, and the [`MAX_RECENT`] that ended last.
fn keep_recent(rows: &mut Vec<Row>) {
    let mut ends: Vec<Option<Timestamp>> =
        rows.iter().filter(|row| row.is_ended()).map(|row| row.ended).collect();
    ends.sort_unstable_by(|a, b| b.cmp(a));
    let oldest = ends.get(MAX_RECENT - 1).copied().flatten();
    let mut shown = 0;
    rows.retain(|row| {
        if !row.is_ended() {
            return true;
        }
        let recent = row.ended >= oldest && shown < MAX_RECENT;
        shown += usize::from(recent);
        recent
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, status: Option<Status>, cost: Option<f64>, turns: u64) -> Row {
        let at = |s: i64| Timestamp::from_epoch_ms(s * 1_000);
        let ended = status.filter(|status| !status.is_live()).and(at(100 - turns as i64));
        let started = status.and(at(i64::from(id.as_bytes()[0])));
        let (id, turns) = (JobId::parse(id).unwrap(), status.and(Some(turns)));
        let source = Source::Item(Box::new(Item::blank(id.clone())));
        Row { id, status, started, ended, cost, turns, source }
    }

    #[test]
    fn missing_values_are_last_in_each_order() {
        // In the order of their starts.
        let mut rows = vec![
            row("a", Some(Status::Completed), Some(0.5), 9),
            row("b", Some(Status::Failed), None, 2),
            row("c", Some(Status::Running), Some(2.0), 4),
            row("d", Some(Status::Completed), Some(0.5), 3),
            row("x", None, None, 0),
        ];
        rows.sort_unstable_by(newest_first);
        for (order, ids, reversed) in [
            (Order::Started, "dcbax", "abcdx"),
            (Order::Ended, "bdacx", "adbcx"),
            (Order::Cost, "cdabx", "dacbx"),
            (Order::Turns, "acdbx", "bdcax"),
            (Order::Status, "cdabx", "bdacx"),
            (Order::Id, "abcdx", "xdcba"),
        ] {
            for (reverse, ids) in [(false, ids), (true, reversed)] {
                let mut sorted = rows.clone();
                order.sort(&mut sorted, reverse);
                let found: String = sorted.iter().map(|row| row.id.as_str()).collect();
                assert_eq!(found, ids, "{order:?}, reversed: {reverse}");
            }
        }
    }
}
