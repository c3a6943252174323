//! What a run came to, in a form that can be read out.

use crate::{
    checker::Violation,
    history::{Answer, Disturbance, History, Purpose},
};
use std::{
    collections::BTreeMap,
    fmt::{self, Write},
};

/// No verdict for this long is time without service.
const SILENCE: f64 = 1.0;
/// How many violations are printed in full.
const SHOWN: usize = 8;

/// A run and its outcome.
pub(crate) struct Report<'a> {
    /// What kind of run it was, and its seed.
    pub(crate) title: String,
    /// What was asked and answered.
    pub(crate) history: &'a History,
    /// How many events the trail has.
    pub(crate) events: usize,
    /// What `audit verify` said.
    pub(crate) audit: &'a Result<String, String>,
    /// What the checker found.
    pub(crate) violations: &'a [Violation],
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{}\n", self.title)?;
        f.write_str(&self.calls())?;
        f.write_str(&self.disturbances())?;
        let (total, longest) = sum(silences(self.history).iter());
        writeln!(
            f,
            "\nwithout any verdict (gaps of over {SILENCE} s): {total:.1} s in all, {longest:.1} s at most\n"
        )?;
        match self.audit {
            Ok(said) => writeln!(f, "audit trail: {} events read; audit verify: {said}", self.events)?,
            Err(said) => writeln!(f, "audit trail: {} events read; audit verify FAILS: {said}", self.events)?,
        }
        self.verdict(f)
    }
}

impl Report<'_> {
    fn calls(&self) -> String {
        let calls = &self.history.calls;
        let seconds = calls.iter().map(|call| call.answered).fold(0.0, f64::max);
        let mut text = format!(
            "{} people, {} calls in {seconds:.0} s through all nodes\n\n",
            self.history.people.len(),
            calls.len()
        );
        let mut kinds: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for call in calls {
            *kinds.entry((purpose(call.purpose), call.answer.kind())).or_default() += 1;
        }
        text += "| calls | to | answer |\n|---|---|---|\n";
        for ((purpose, kind), count) in kinds {
            let _ = writeln!(text, "| {count} | {purpose} | {kind} |");
        }
        let slowest = |is_meant: fn(&Answer) -> bool| {
            let took =
                calls.iter().filter(|call| is_meant(&call.answer)).map(|call| call.answered - call.sent);
            took.fold(0.0, f64::max)
        };
        let verdict = slowest(|answer| answer.result().is_some());
        let unavailable = slowest(|answer| matches!(answer, Answer::Unavailable { .. }));
        let _ = writeln!(text, "\nslowest verdict {verdict:.1} s, slowest 503 {unavailable:.1} s\n");
        text
    }

    /// Tells for each disturbance how long nobody got a verdict, until the next one began.
    fn disturbances(&self) -> String {
        let disturbances = &self.history.disturbances;
        let silences = silences(self.history);
        let mut text =
            "| at | disturbance | lasted | without any verdict | at most | whole after |\n".to_owned();
        text += "|---|---|---|---|---|---|\n";
        for (place, disturbance) in disturbances.iter().enumerate() {
            let (total, longest) =
                sum(silences.iter().filter(|silence| cause(disturbances, silence) == Some(place)));
            let _ = writeln!(
                text,
                "| {:.0} s | {} | {:.1} s | {total:.1} s | {longest:.1} s | {:.1} s |",
                disturbance.begun,
                disturbance.what,
                disturbance.ended - disturbance.begun,
                disturbance.whole - disturbance.begun,
            );
        }
        text
    }

    fn verdict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let replayed = self.history.calls.iter().filter(|call| call.purpose == Purpose::LastReplay).count();
        writeln!(f, "used codes tried once more in the end, through every node: {replayed}")?;
        let mut rules: BTreeMap<String, usize> = BTreeMap::new();
        for violation in self.violations {
            *rules.entry(violation.rule.to_string()).or_default() += 1;
        }
        if rules.is_empty() {
            return writeln!(f, "the checker found nothing");
        }
        writeln!(f, "the checker found {} violations:", self.violations.len())?;
        for (rule, count) in rules {
            writeln!(f, "  {count} × {rule}")?;
        }
        self.violations.iter().take(SHOWN).try_for_each(|violation| writeln!(f, "{violation}"))
    }
}

const fn purpose(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Use => "use a code",
        Purpose::Replay => "use one again",
        Purpose::Guess => "guess",
        Purpose::LastReplay => "use one again in the end",
    }
}

/// A time in which nobody got a verdict.
struct Silence {
    begun: f64,
    ended: f64,
}

fn silences(history: &History) -> Vec<Silence> {
    let verdicts = history.calls.iter().filter(|call| call.answer.result().is_some());
    let mut times: Vec<f64> = verdicts.map(|call| call.answered).collect();
    times.sort_by(f64::total_cmp);
    let silences = times.windows(2).map(|pair| Silence { begun: pair[0], ended: pair[1] });
    silences.filter(|silence| silence.ended - silence.begun > SILENCE).collect()
}

/// Returns the disturbance that a silence belongs to: the last one that began before it was over. It begins a little earlier
/// than that, with the last verdict there was.
fn cause(disturbances: &[Disturbance], silence: &Silence) -> Option<usize> {
    disturbances.iter().rposition(|disturbance| disturbance.begun < silence.ended)
}

/// Returns how long silences are together, and the longest of them.
fn sum<'a>(silences: impl Iterator<Item = &'a Silence>) -> (f64, f64) {
    let lengths = silences.map(|silence| silence.ended - silence.begun);
    lengths.fold((0.0, 0.0), |(total, longest): (f64, f64), length| (total + length, longest.max(length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silence_belongs_to_what_began_before_it_ended() {
        let at = |begun| Disturbance { what: String::new(), begun, ended: begun, whole: begun };
        let disturbances = [at(10.0), at(20.0)];
        let cause = |begun, ended| cause(&disturbances, &Silence { begun, ended });

        assert_eq!(cause(1.0, 9.0), None);
        assert_eq!(cause(9.9, 12.0), Some(0));
        assert_eq!(cause(19.9, 30.0), Some(1));
    }
}
