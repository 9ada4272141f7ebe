//! Causes in a node's own work: too slow, too late, again and again from the beginning.

use super::Cause;
use super::case::{Case, Certainty, Found, RECENT, utc};
use super::surroundings::missed;
use crate::watch::measures;

/// The process ends and begins again.
pub const RESTARTS: Cause = Cause {
    id: "restarts",
    title: "the process ends in mid-window and is started again",
    reason: "each end without a drain costs the window under way, and the checkpoint must be loaded again",
    remedy: "look for who ends it: the kernel (out of memory), a container's update, a supervisor's limit; `templar service` drains before an end",
    find: |case| {
        let since_ms = case.node.since_ms(RECENT);
        let torn: Vec<_> = case.node.starts.iter().filter(|start| !start.clean && start.t_ms > since_ms).collect();
        let last = torn.last().filter(|_| torn.len() >= 2)?;
        let sentence = format!("{} starts lately without a word of the process before", torn.len());
        let line = format!("{} · started at {}", case.node.name, utc(last.t_ms));
        Some(Found::new(Certainty::Certain, sentence).with(line, "started without stopped before it", "a stopped entry first"))
    },
};

/// Work does not fit the window.
pub const SLOW: Cause = Cause {
    id: "too-slow",
    title: "the work does not fit the window",
    reason: "steps that are not taken are training that others have; a window that is overrun is lost",
    remedy: "`templar doctor --only engine,host` and `templar plan`: more or faster devices, or end what else uses them",
    find: slow,
};

fn slow(case: &Case<'_>) -> Option<Found> {
    let windows = case.windows();
    let newest = windows.last()?;
    let plan = newest.plan.inner_steps;
    if plan == 0 || !case.mines() {
        return None;
    }
    let trained: Vec<_> = windows.iter().copied().filter(|entry| entry.training.is_some()).collect();
    if let Some((mean, least, count)) = measures::inner_steps(trained.iter().copied())
        && mean < 0.95 * f64::from(plan)
    {
        let work: Vec<u64> = trained.iter().map(|entry| measures::work_ms(entry)).collect();
        let most = work.iter().max().copied().unwrap_or(0);
        let sentence = format!("{mean:.1} of {plan} inner steps on average over {count} windows; a window's work took up to {most} ms");
        let line = case.line(trained.last().map_or(newest.window, |entry| entry.window));
        return Some(Found::new(Certainty::Certain, sentence).with(line, format!("steps {least} at least"), format!("{plan} steps")));
    }
    let is_over = |entry: &_| measures::work_ms(entry) > entry.plan.window_ms && !measures::is_virtual(entry);
    let over = case.count(|entry| entry.plan.window_ms > 0 && is_over(entry));
    let sentence = format!("in {over} of the last windows the work took longer than the window of {} ms", newest.plan.window_ms);
    let observed = format!("phases_ms with {} ms of work", measures::work_ms(newest));
    (over >= 2).then(|| Found::new(Certainty::Certain, sentence).with(case.line(newest.window), observed, "less than a window"))
}

/// Uploads come late.
pub const LATE: Cause = Cause {
    id: "uploads-late",
    title: "objects arrive after the upload window",
    reason: "a late object counts as none, and its residual is given back",
    remedy: "`templar doctor --only store.upload_rate`: a faster link, a nearer store, fewer uploads beside it",
    find: |case| {
        let margins = measures::upload_margins(case.windows());
        let late: Vec<_> = margins.iter().filter(|(_, margin)| margin.is_some_and(|margin| margin < 0)).collect();
        let refused = case.refused(&["late"]);
        if refused.is_empty() && late.len() < 2 {
            return None;
        }
        let upload_ms = case.node.newest().map_or(0, |entry| entry.plan.upload_ms);
        let sentence = format!("{} of the last objects were late by this node's clock, {} were refused as late", late.len(), refused.len());
        let mut found = Found::new(Certainty::Certain, sentence);
        if let Some((window, Some(margin))) = late.last() {
            found = found.with(case.line(*window), format!("upload_margin_ms {margin}"), format!("above 0 of {upload_ms} ms"));
        }
        if let Some((window, kind, reason)) = refused.last() {
            found = found.with(case.line(*window), format!("refused as {kind}: {reason}"), "accepted");
        }
        Some(found)
    },
};

/// Uploads are nearly late.
pub const MARGIN: Cause = Cause {
    id: "upload-margin-thin",
    title: "objects arrive just before the deadline",
    reason: "the next slow minute of the link costs a window",
    remedy: "as for uploads-late, before it happens",
    find: |case| {
        let least = measures::upload_margins(case.windows()).into_iter().filter_map(|(window, margin)| Some((margin?, window))).min()?;
        let plan = case.node.newest()?.plan;
        let room_ms = measures::upload_room_ms(plan.upload_ms, plan.block_ms);
        let found = Found::new(Certainty::Possible, format!("the least margin was {} ms of {room_ms} ms", least.0));
        measures::is_thin(least.0, room_ms)
            .then(|| found.with(case.line(least.1), format!("upload_margin_ms {}", least.0), "a fifth of the upload window"))
    },
};

/// The node is behind.
pub const BEHIND: Cause = Cause {
    id: "catching-up",
    title: "the node is behind the network",
    reason: "windows that are caught up are followed, not trained, and not paid",
    remedy: "wait while it comes nearer; when it does not, `templar doctor --only engine.meets_deadline,store.download_rate`",
    find: |case| {
        let (behind, now) = missed(case)?;
        let own = case.node.newest()?.window;
        let joins = case.node.joined.is_some_and(|(t_ms, _)| t_ms > case.node.since_ms(RECENT));
        let certainty = if joins { Certainty::Possible } else { Certainty::Likely };
        let found = Found::new(certainty, format!("its last window is {own}, others are at {now}, {behind} windows ahead"));
        Some(found.with(case.line(own), format!("window {own}"), format!("window {now}")))
    },
};

/// The schedule is at its end.
pub const ANNEALED: Cause = Cause {
    id: "annealed",
    title: "the learning rate is 0",
    reason: "the run's schedule is at its end: training changes nothing any more",
    remedy: "nothing: the run is over; leave it",
    find: |case| {
        let zero = case.count(|entry| entry.training.as_ref().is_some_and(|training| training.steps > 0 && training.learning_rate == 0.0));
        let newest = case.node.newest().filter(|_| zero >= 2)?;
        let found = Found::new(Certainty::Certain, format!("learning_rate was 0 in {zero} of the last windows"));
        Some(found.with(case.line(newest.window), "learning_rate 0", "above 0"))
    },
};
