//! The one table of metrics. Base units, `_total` for counters; a counter for each way in and each way out,
//! a 0/1 gauge for each latch. Labels: names from configuration and words from enums, so cardinality is bounded.
use super::exemplars::{Exemplar, Exemplars};
use super::openmetrics;
use super::skews::Skews;
use crate::base::clock::{Clock, Wall};
use crate::base::names::InstanceId;
use prometheus::core::Collector;
use prometheus::proto::{MetricFamily, MetricType};
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry, TextEncoder,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

// Rooms that keep a handle name its type through here: this room is the only door to prometheus.
pub use prometheus::{IntGauge, IntGaugeVec};

/// All metrics of one box. Cheap to clone; every room that counts gets one.
#[derive(Clone)]
pub struct Metrics(Arc<Table>);

/// Storage commitment, in both roles.
pub struct Commitments {
    pub awaiting: IntGaugeVec,
    pub outstanding: IntGaugeVec,
    pub oldest_seconds: GaugeVec,
    pub requests_total: IntCounterVec,
    pub answers_total: IntCounterVec,
    pub unmatched_total: IntCounterVec,
    pub demands_total: IntCounterVec,
    pub demands_open: IntGaugeVec,
    pub demands_oldest_seconds: GaugeVec,
    pub demanded_total: IntCounterVec,
    pub reports_total: IntCounterVec,
}

/// The handles, one for each metric.
pub struct Table {
    registry: Registry,
    exemplars: Exemplars,
    skews: Skews,
    made: Instant,
    pub start_timestamp_seconds: Gauge,
    pub alarms: Watched,
    pub associations_total: IntCounterVec,
    pub refusals_total: IntCounterVec,
    pub associations_open: IntGaugeVec,
    pub tls_failures_total: IntCounterVec,
    pub certificate_expiry_timestamp_seconds: IntGaugeVec,
    pub crl_next_update_timestamp_seconds: IntGaugeVec,
    pub certificate_reload_failed: IntGaugeVec,
    pub certificate_reloads_total: IntCounterVec,
    pub association_failures_total: IntCounterVec,
    pub received_total: IntCounterVec,
    pub received_bytes_total: IntCounterVec,
    pub store_answers_total: IntCounterVec,
    pub store_seconds: HistogramVec,
    pub repeats_total: IntCounterVec,
    pub rule_decisions_total: IntCounterVec,
    pub rule_flags_total: IntCounterVec,
    pub rule_canary_decisions_total: IntCounterVec,
    pub rule_failures: IntGaugeVec,
    pub source_clock_skew_seconds: IntGaugeVec,
    pub rule_seconds: Histogram,
    pub rules_reload_failed: IntGauge,
    pub rules_loaded_timestamp_seconds: Gauge,
    pub rules_reloads_total: IntCounterVec,
    pub commit_seconds: Histogram,
    pub commit_batch_jobs: Histogram,
    pub spool_instances: IntGaugeVec,
    pub spool_free_bytes: IntGauge,
    pub spool_free_inodes: IntGauge,
    pub spool_low_water: IntGauge,
    pub gate_latched: IntGauge,
    pub gate_errors_total: IntCounterVec,
    pub evicted_total: IntCounter,
    pub quarantined_total: IntCounterVec,
    pub spool_damaged: IntGauge,
    pub salvage_unacknowledged: IntGauge,
    pub scrub_bytes_total: IntCounter,
    pub scrub_payloads_total: IntCounterVec,
    pub scrub_pass_ratio: Gauge,
    pub scrub_completed_timestamp_seconds: Gauge,
    pub jobs_queued: IntGaugeVec,
    pub jobs_held: IntGaugeVec,
    pub jobs_in_flight: IntGaugeVec,
    pub oldest_job_age_seconds: GaugeVec,
    pub deliveries_total: IntCounterVec,
    pub delivered_bytes_total: IntCounterVec,
    pub delivery_seconds: HistogramVec,
    pub lag_seconds: HistogramVec,
    pub failovers_total: IntCounterVec,
    pub lane_open: IntGaugeVec,
    pub lane_suspended: IntGaugeVec,
    pub lane_associations_wanted: IntGaugeVec,
    pub lane_associations_open: IntGaugeVec,
    pub lane_ceiling: IntGaugeVec,
    pub lane_failures_total: IntCounterVec,
    pub contexts_parked: IntGaugeVec,
    pub watchdog_total: IntCounterVec,
    pub commitment: Commitments,
    pub queue_verbs_total: IntCounterVec,
    pub conversions_total: IntCounterVec,
    pub conversion_seconds: HistogramVec,
    pub conversion_saved_bytes_total: IntCounterVec,
    pub transcode_worker_failures_total: IntCounterVec,
    pub contexts_learned: IntGaugeVec,
    pub panics_total: IntCounter,
    pub reconcile_differences: IntGaugeVec,
    pub reconcile_open: IntGauge,
    pub reconcile_timestamp_seconds: Gauge,
    pub reconcile_runs_total: IntCounterVec,
}

/// What the alarms measure and tell.
pub struct Watched {
    pub source_last_received: GaugeVec,
    pub source_silent: IntGaugeVec,
    pub jobs_unconfigured: IntGaugeVec,
    pub drain_seconds: GaugeVec,
    pub spool_room_bytes: IntGauge,
    pub spool_full_seconds: Gauge,
    pub clock_implausible: IntGaugeVec,
    pub clock_jumps_total: IntCounter,
    pub rules_stale: IntGauge,
    pub state_unwritten: IntGauge,
    pub incidents_open: IntGaugeVec,
    pub incidents_total: IntCounterVec,
    pub alarm_messages_total: IntCounterVec,
    pub alarm_messages_waiting: IntGaugeVec,
}

/// One number of the exposition, as a rule of the alarms sees it.
#[derive(Clone, PartialEq, Debug)]
pub struct Sample {
    /// In the order of the label names.
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl std::ops::Deref for Metrics {
    type Target = Table;
    fn deref(&self) -> &Table {
        &self.0
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A fresh registry with every metric of the table in it.
    #[must_use]
    pub fn new() -> Self {
        let table = Table::new();
        // Before the first look nothing is known to grow; 0 would say that the disk is full.
        table.alarms.spool_full_seconds.set(f64::INFINITY);
        // There from the start, so that the first failure is an increase.
        for result in ["done", "failed"] {
            table.reconcile_runs_total.with_label_values(&[result]).reset();
        }
        table.start_timestamp_seconds.set(Clock::System.now().seconds());
        Self(Arc::new(table))
    }

    /// The exposition text (format 0.0.4).
    #[must_use]
    pub fn text(&self) -> String {
        // Encoding fails only for an invalid metric family, which the registration has already refused.
        TextEncoder::new().encode_to_string(&self.gather()).unwrap_or_default()
    }

    /// The exposition in the OpenMetrics format 1.0, with exemplars.
    #[must_use]
    pub fn open_metrics(&self) -> String {
        openmetrics::text(&self.gather(), &self.exemplars)
    }

    /// All counters and gauges as they stand, by name: what the alarms judge is what Prometheus would see.
    #[must_use]
    pub fn samples(&self) -> BTreeMap<String, Vec<Sample>> {
        let mut all = BTreeMap::new();
        for family in self.gather() {
            let value: fn(&prometheus::proto::Metric) -> f64 = match family.get_field_type() {
                MetricType::COUNTER => |metric| metric.get_counter().get_value(),
                MetricType::GAUGE => |metric| metric.get_gauge().get_value(),
                MetricType::HISTOGRAM | MetricType::SUMMARY | MetricType::UNTYPED => continue,
            };
            let sample = |metric: &prometheus::proto::Metric| {
                let labels = metric.get_label().iter();
                Sample {
                    labels: labels
                        .map(|pair| (pair.name().to_owned(), pair.value().to_owned()))
                        .collect(),
                    value: value(metric),
                }
            };
            all.insert(
                family.name().to_owned(),
                family.get_metric().iter().map(sample).collect(),
            );
        }
        all
    }

    fn gather(&self) -> Vec<MetricFamily> {
        self.skews.show(&self.source_clock_skew_seconds, self.made.elapsed());
        self.registry.gather()
    }

    /// An instance of this source says that it was made so many seconds after its arrival; below 0: before it.
    pub fn clock_skew(&self, source: &str, seconds: i64) {
        let gauge = &self.source_clock_skew_seconds;
        self.skews.note(gauge, source, seconds, self.made.elapsed());
    }

    /// Whether it is known that the box's clock cannot be right: see `clock_implausible`.
    #[must_use]
    pub fn is_clock_doubted(&self) -> bool {
        let families = self.alarms.clock_implausible.collect();
        let mut reasons = families.iter().flat_map(MetricFamily::get_metric);
        reasons.any(|reason| reason.get_gauge().get_value() > 0.0)
    }

    /// Jobs held of one destination, of all kinds.
    #[must_use]
    pub fn held_of(&self, destination: &str) -> u64 {
        let families = self.jobs_held.collect();
        let samples = families.iter().flat_map(|family| family.get_metric());
        let own = samples.filter(|sample| {
            let mut labels = sample.get_label().iter();
            labels.any(|pair| pair.name() == "destination" && pair.value() == destination)
        });
        let sum: f64 = own.map(|sample| sample.get_gauge().get_value()).sum();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let count = sum.max(0.0) as u64;
        count
    }

    /// The time of one C-STORE; with the instance that it ended in, when it was stored.
    pub fn stored(&self, source: &str, seconds: f64, instance: Option<(&InstanceId, Wall)>) {
        match instance {
            None => self.store_seconds.with_label_values(&[source]).observe(seconds),
            Some((id, at)) => self.exemplars.observe(
                ("waystation_store_seconds", &SECONDS),
                &self.store_seconds,
                source,
                exemplar(id, seconds, at),
            ),
        }
    }

    /// The time of one delivery, of this instance.
    pub fn delivery(&self, destination: &str, seconds: f64, id: &InstanceId, at: Wall) {
        self.exemplars.observe(
            ("waystation_delivery_seconds", &SECONDS),
            &self.delivery_seconds,
            destination,
            exemplar(id, seconds, at),
        );
    }

    /// The time from this instance's arrival to its confirmation.
    pub fn lag(&self, destination: &str, seconds: f64, id: &InstanceId, at: Wall) {
        self.exemplars.observe(
            ("waystation_delivery_lag_seconds", &LAGS),
            &self.lag_seconds,
            destination,
            exemplar(id, seconds, at),
        );
    }
}

fn exemplar(id: &InstanceId, value: f64, at: Wall) -> Exemplar {
    Exemplar {
        instance: id.to_string(),
        value,
        at: at.seconds(),
    }
}

impl Table {
    #[rustfmt::skip]
    fn new() -> Self {
        let r = Registry::new();
        gauges(&r, "waystation_build_info", "Always 1; the version is the label", &["version"]).with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Self {
            start_timestamp_seconds: float_gauge(&r, "waystation_start_timestamp_seconds", "When this process of the box began: what its counters count began then"),
            associations_total: counters(&r, "waystation_associations_total", "Associations accepted", &["listener", "source"]),
            refusals_total: counters(&r, "waystation_association_refusals_total", "Connections and associations refused, by reason", &["listener", "reason"]),
            associations_open: gauges(&r, "waystation_associations_open", "Associations open now", &["listener"]),
            tls_failures_total: counters(&r, "waystation_tls_failures_total", "TLS connections that did not come about, by whose certificates and by exact reason (docs/tls.md)", &["role", "name", "reason"]),
            certificate_expiry_timestamp_seconds: gauges(&r, "waystation_certificate_expiry_timestamp_seconds", "When the first certificate of this role that is in force ends (roles with _ca and _chain: of its authorities and intermediates)", &["role", "name"]),
            crl_next_update_timestamp_seconds: gauges(&r, "waystation_crl_next_update_timestamp_seconds", "When the first of the revocation lists in force is to be replaced", &["role", "name"]),
            certificate_reload_failed: gauges(&r, "waystation_certificate_reload_failed", "1 while certificate files on the disk cannot be used and older ones stay in force", &["role", "name"]),
            certificate_reloads_total: counters(&r, "waystation_certificate_reloads_total", "Certificate files that changed on the disk, by result", &["role", "name", "result"]),
            association_failures_total: counters(&r, "waystation_association_failures_total", "Associations that ended by abort, time-out or protocol error, by reason", &["listener", "reason"]),
            received_total: counters(&r, "waystation_instances_received_total", "Instances that were taken and acknowledged: committed to the spool, or here already with the same content (see waystation_repeats_total)", &["source"]),
            received_bytes_total: counters(&r, "waystation_instances_received_bytes_total", "Bytes of the data sets of instances that were taken and acknowledged, repeats included", &["source"]),
            store_answers_total: counters(&r, "waystation_store_answers_total", "C-STORE answers given, by status word", &["source", "status"]),
            store_seconds: histograms(&r, "waystation_store_seconds", "Time from the C-STORE command to its answer", &["source"]),
            repeats_total: counters(&r, "waystation_repeats_total", "Repeated SOP instances: same content, or other content under the same UID", &["source", "kind"]),
            rule_decisions_total: counters(&r, "waystation_rule_decisions_total", "Decisions of the rules, by outcome", &["outcome"]),
            rule_canary_decisions_total: counters(&r, "waystation_rule_canary_decisions_total", "Decisions of the canary set, by outcome; they also count as decisions of the rules", &["outcome"]),
            rule_flags_total: counters(&r, "waystation_rule_flags_total", "Instances that a word of the rules flagged without holding them", &["flag", "source"]),
            rule_failures: gauges(&r, "waystation_rule_failures_held", "Instances held because a rule failed, went over its budget, made a change that cannot be made or named no destination (alarm when above 0)", &["kind"]),
            source_clock_skew_seconds: gauges(&r, "waystation_source_clock_skew_seconds", "How long after its arrival an instance of a source says it was made, the greatest of the last hour; above 0 the source's clock is ahead; absent when none was judged for an hour (timezone::check_clock)", &["source"]),
            rule_seconds: histogram(&r, "waystation_rule_seconds", "Time to decide on one instance"),
            rules_reload_failed: gauge(&r, "waystation_rules_reload_failed", "1 when the rule folder on disk was refused and an older set is in force"),
            rules_loaded_timestamp_seconds: float_gauge(&r, "waystation_rules_loaded_timestamp_seconds", "When the rule set in force was loaded"),
            rules_reloads_total: counters(&r, "waystation_rules_reloads_total", "Rule folder loads, by result", &["result"]),
            commit_seconds: histogram(&r, "waystation_spool_commit_seconds", "Time of one synced commit batch"),
            commit_batch_jobs: histogram(&r, "waystation_spool_commit_batch_size", "Commits gathered into one synced batch"),
            spool_instances: gauges(&r, "waystation_spool_instances", "Instances in the spool: pending, or kept as cache: delivered, or discarded by a person", &["state"]),
            spool_free_bytes: gauge(&r, "waystation_spool_free_bytes", "Free bytes on the spool's file system"),
            spool_free_inodes: gauge(&r, "waystation_spool_free_inodes", "Free inodes on the spool's file system"),
            spool_low_water: gauge(&r, "waystation_spool_low_water", "1 while the disk is below its low-water mark and instances are refused with A700"),
            gate_latched: gauge(&r, "waystation_spool_gate_latched", "1 after a write or sync error, while nothing is acknowledged"),
            gate_errors_total: counters(&r, "waystation_spool_errors_total", "Write, sync and read errors of the spool, by kind", &["kind"]),
            evicted_total: counter(&r, "waystation_cache_evicted_total", "Delivered instances removed from the cache to make room"),
            quarantined_total: counters(&r, "waystation_quarantined_total", "Records and payloads that could not be read and were put aside, by kind", &["kind"]),
            spool_damaged: gauge(&r, "waystation_spool_damaged", "Instances with open jobs whose payload is missing or not what arrived: have them sent again"),
            salvage_unacknowledged: gauge(&r, "waystation_salvage_unacknowledged", "1 while a report of lost or doubtful instances waits for a person's acknowledgement"),
            scrub_bytes_total: counter(&r, "waystation_scrub_bytes_total", "Bytes of payload files that the scrub has read"),
            scrub_payloads_total: counters(&r, "waystation_scrub_payloads_total", "Payload files that the scrub has verified, by result", &["result"]),
            scrub_pass_ratio: float_gauge(&r, "waystation_scrub_pass_ratio", "How much of its present pass the scrub has done, 0 to 1"),
            scrub_completed_timestamp_seconds: float_gauge(&r, "waystation_scrub_completed_timestamp_seconds", "When the scrub last completed a pass; 0: never"),
            jobs_queued: gauges(&r, "waystation_jobs_queued", "Jobs waiting for delivery, with those being sent now", &["destination", "priority"]),
            jobs_held: gauges(&r, "waystation_jobs_held", "Jobs held for a person, by kind of reason", &["destination", "kind"]),
            jobs_in_flight: gauges(&r, "waystation_jobs_in_flight", "Jobs being sent now", &["destination"]),
            oldest_job_age_seconds: float_gauges(&r, "waystation_oldest_job_age_seconds", "Age of the oldest job that waits for delivery, from arrival", &["destination"]),
            deliveries_total: counters(&r, "waystation_deliveries_total", "Delivery attempts that ended, by outcome", &["destination", "outcome"]),
            delivered_bytes_total: counters(&r, "waystation_delivered_bytes_total", "Bytes of data sets that a destination confirmed", &["destination"]),
            delivery_seconds: histograms(&r, "waystation_delivery_seconds", "Time of one delivery, from its first byte to its answer", &["destination"]),
            lag_seconds: histograms(&r, "waystation_delivery_lag_seconds", "Time from arrival to the destination's confirmation", &["destination"]),
            failovers_total: counters(&r, "waystation_failovers_total", "Jobs that the next destination of their group got because the first was down", &["from", "to"]),
            lane_open: gauges(&r, "waystation_destination_up", "1 while the destination can be reached, 0 while its breaker is open", &["destination"]),
            lane_suspended: gauges(&r, "waystation_destination_suspended", "1 while a person (or a refusal of authorisation) has suspended the destination", &["destination"]),
            lane_associations_wanted: gauges(&r, "waystation_destination_associations_wanted", "Associations that the destination's backlog and line call for, within its limit", &["destination"]),
            lane_associations_open: gauges(&r, "waystation_destination_associations_open", "Associations with the destination that are open or being opened", &["destination"]),
            lane_ceiling: gauges(&r, "waystation_destination_ceiling_bytes_per_second", "The bandwidth ceiling in force now; 0: none", &["destination"]),
            lane_failures_total: counters(&r, "waystation_destination_failures_total", "Failures to reach a destination, by kind; they cost no job an attempt", &["destination", "kind"]),
            contexts_parked: gauges(&r, "waystation_destination_parked_contexts", "SOP class and syntax pairs that the destination refuses", &["destination"]),
            watchdog_total: counters(&r, "waystation_destination_stuck_total", "Sockets closed by the watchdog because nothing moved", &["destination"]),
            commitment: Commitments::new(r.clone()),
            queue_verbs_total: counters(&r, "waystation_queue_verbs_total", "Operator verbs on the queue, by verb", &["verb"]),
            conversions_total: counters(&r, "waystation_conversions_total", "Conversions to another transfer syntax at delivery, by kind and by how they ended", &["destination", "kind", "outcome"]),
            conversion_seconds: histograms(&r, "waystation_conversion_seconds", "Time of one conversion by a codec, waiting for a place included", &["destination"]),
            conversion_saved_bytes_total: counters(&r, "waystation_conversion_saved_bytes_total", "Bytes by which converted instances were smaller than the stored ones", &["destination"]),
            transcode_worker_failures_total: counters(&r, "waystation_transcode_worker_failures_total", "Codec processes that crashed, were killed or answered nothing, by how they ended", &["ending"]),
            contexts_learned: gauges(&r, "waystation_contexts_learned", "SOP class and transfer syntax pairs of which is known what the destination answers", &["destination", "answer"]),
            panics_total: counter(&r, "waystation_panics_total", "Panics that ended one association, request, rule or delivery, and nothing else (our fault: report it)"),
            alarms: Watched::new(r.clone()),
            exemplars: Exemplars::default(),
            skews: Skews::default(),
            made: Instant::now(),
            reconcile_differences: gauges(&r, "waystation_reconcile_differences", "Differences of the last 14 days that stood when they were looked at last, by kind (alarm when above 0)", &["kind"]),
            reconcile_open: gauge(&r, "waystation_reconcile_open_deliveries", "Deliveries that waited when the last reconciliation was made; no difference"),
            reconcile_timestamp_seconds: float_gauge(&r, "waystation_reconcile_last_run_timestamp_seconds", "When the last reconciliation was made; 0: never"),
            reconcile_runs_total: counters(&r, "waystation_reconcile_runs_total", "Reconciliations, by result", &["result"]),
            registry: r,
        }
    }
}

impl Commitments {
    // Its own handle of the registry, so that every line of the table reads alike.
    #[rustfmt::skip]
    #[allow(clippy::needless_pass_by_value)]
    fn new(r: Registry) -> Self {
        Self {
            awaiting: gauges(&r, "waystation_commitment_awaiting_jobs", "Jobs that were sent and wait for their destination's commitment to keep them", &["destination"]),
            outstanding: gauges(&r, "waystation_commitment_outstanding_requests", "Requests for commitment that a destination has not answered yet", &["destination"]),
            oldest_seconds: float_gauges(&r, "waystation_commitment_oldest_seconds", "How long the oldest sent job of a destination has waited for its commitment, since it was sent", &["destination"]),
            requests_total: counters(&r, "waystation_commitment_requests_total", "Requests for commitment made to a destination, by result: accepted, refused, broken (nobody knows), down, lapsed (accepted and not answered in time)", &["destination", "result"]),
            answers_total: counters(&r, "waystation_commitment_answers_total", "Instances that a destination's answers spoke of, by result: committed, again (sent again), held", &["destination", "result"]),
            unmatched_total: counters(&r, "waystation_commitment_unmatched_total", "Answers about a transaction that this box never asked, or that its answerer does not speak for", &["source"]),
            demands_total: counters(&r, "waystation_commitment_demands_total", "Requests for commitment that sources made, by result: accepted, duplicate, refused", &["source", "result"]),
            demands_open: gauges(&r, "waystation_commitment_demands_open", "Requests of sources that are not over, by state: waiting (for their instances), decided (the source has not taken the answer)", &["source", "state"]),
            demands_oldest_seconds: float_gauges(&r, "waystation_commitment_demands_oldest_seconds", "Age of the oldest request of a source that is not over", &["source"]),
            demanded_total: counters(&r, "waystation_commitment_demanded_instances_total", "Instances that requests of sources were decided on, by result: committed, failed", &["source", "result"]),
            reports_total: counters(&r, "waystation_commitment_reports_total", "Attempts to tell a source the answer, by result: taken, failed, given_up", &["source", "result"]),
        }
    }
}

impl Watched {
    // Its own handle of the registry, so that every line of the table reads alike.
    #[rustfmt::skip]
    #[allow(clippy::needless_pass_by_value)]
    fn new(r: Registry) -> Self {
        Self {
            source_last_received: float_gauges(&r, "waystation_source_last_received_timestamp_seconds", "When a source last sent an instance that was stored, or one that is here already; kept over restarts, after a crash as of up to ten minutes before it", &["source"]),
            source_silent: gauges(&r, "waystation_source_silent", "1 while a source is silent for longer than it ever is at these hours (learned, or by configuration); after a restart what it was before, until it sends or was watched for long enough", &["source"]),
            jobs_unconfigured: gauges(&r, "waystation_jobs_unconfigured", "Jobs of a destination that is not in the configuration: nobody delivers them until it is there again, or a person reroutes or discards them", &["destination"]),
            drain_seconds: float_gauges(&r, "waystation_destination_drain_seconds", "Time to deliver what is due, at the observed rates, counted from when the destination answers; 0 when nothing is due; +Inf when more arrives than it takes; absent while something waits and no rate was ever observed", &["destination"]),
            spool_room_bytes: gauge(&r, "waystation_spool_room_bytes", "Bytes that may still come before instances are refused: free space above the low-water mark, and delivered instances that may leave"),
            spool_full_seconds: float_gauge(&r, "waystation_spool_full_seconds", "Time until instances are refused for want of room, at the observed rates of undelivered instances and of what others write on its disk; +Inf while neither grows, 0 while instances are refused for it"),
            clock_implausible: gauges(&r, "waystation_clock_implausible", "1 while the box's clock cannot be right, by reason", &["reason"]),
            clock_jumps_total: counter(&r, "waystation_clock_jumps_total", "Jumps of the box's clock against the time that has passed"),
            rules_stale: gauge(&r, "waystation_rules_stale", "1 while the rule folder on disk is not what is in force"),
            state_unwritten: gauge(&r, "waystation_state_unwritten", "1 while what the box keeps in node.state cannot be written: its disk is full or read-only, or the folder is another user's"),
            incidents_open: gauges(&r, "waystation_incidents_open", "Incidents open now, by kind and severity; each has one cause", &["kind", "severity"]),
            incidents_total: counters(&r, "waystation_incidents_total", "Incidents opened, by kind", &["kind"]),
            alarm_messages_total: counters(&r, "waystation_alarm_messages_total", "Attempts to deliver a message of an incident, by channel and result", &["channel", "result"]),
            alarm_messages_waiting: gauges(&r, "waystation_alarm_messages_waiting", "Messages of incidents that are not delivered yet", &["channel"]),
        }
    }
}

/// Buckets for times: 0.5 ms to 2 minutes.
const SECONDS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0,
];
/// Buckets for lags: 10 ms to a week.
const LAGS: [f64; 12] = [
    0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 300.0, 3600.0, 21_600.0, 86_400.0, 604_800.0,
];
/// Buckets for batch sizes.
const COUNTS: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

fn buckets(name: &str) -> Vec<f64> {
    match name {
        "waystation_delivery_lag_seconds" => LAGS.to_vec(),
        "waystation_spool_commit_batch_size" => COUNTS.to_vec(),
        _ => SECONDS.to_vec(),
    }
}

/// Names and labels are constants of this file and tested below, so building and registering cannot fail.
fn register<C: Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    // See above: names and labels are constants, and a test builds them all.
    let collector = made.expect("a metric of the table is well formed");
    registry
        .register(Box::new(collector.clone()))
        .expect("a metric stands once in the table");
    collector
}

fn counter(r: &Registry, name: &str, help: &str) -> IntCounter {
    register(r, IntCounter::new(name, help))
}

fn counters(r: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(r, IntCounterVec::new(Opts::new(name, help), labels))
}

fn gauge(r: &Registry, name: &str, help: &str) -> IntGauge {
    register(r, IntGauge::new(name, help))
}

fn gauges(r: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    register(r, IntGaugeVec::new(Opts::new(name, help), labels))
}

fn float_gauge(r: &Registry, name: &str, help: &str) -> Gauge {
    register(r, Gauge::new(name, help))
}

fn float_gauges(r: &Registry, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    register(r, GaugeVec::new(Opts::new(name, help), labels))
}

fn histogram(r: &Registry, name: &str, help: &str) -> Histogram {
    register(
        r,
        Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets(name))),
    )
}

fn histograms(r: &Registry, name: &str, help: &str, labels: &[&str]) -> HistogramVec {
    register(
        r,
        HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets(name)), labels),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_registers_and_prints() {
        let metrics = Metrics::new();
        metrics.received_total.with_label_values(&["ct1"]).inc();
        let text = metrics.text();
        assert!(
            text.contains("waystation_instances_received_total{source=\"ct1\"} 1"),
            "{text}"
        );
        assert!(text.contains("waystation_build_info"), "{text}");
    }
}
