//! Estimates and faults of sensors in OpenMetrics text.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;

use crate::core::fusion::estimate::{Estimate, Status};
use crate::shell::fusion::Standing;

type Labels = Vec<(&'static str, String)>;
type Number = Family<Labels, Gauge<f64, AtomicU64>>;

/// The text, without what ends an exposition. Names and values are as of the call: what has gone is not shown.
pub fn text(estimates: &[Estimate], standing: &[Standing]) -> String {
    let mut registry = Registry::with_prefix("sensorctl");
    let [value, sigma, lower, upper, inflation] = std::array::from_fn(|_| Number::default());
    let sensors: Family<Labels, Gauge> = Family::default();
    let consistent: Family<Labels, Gauge> = Family::default();
    let tolerated: Family<Labels, Gauge> = Family::default();
    let faults: Family<Labels, Gauge> = Family::default();
    for estimate in estimates {
        let subject = &estimate.subject;
        let labels: Labels = vec![
            ("quantity", subject.quantity.clone()),
            ("group", subject.group.clone()),
            ("region", subject.region.as_ref().map(ToString::to_string).unwrap_or_default()),
            ("unit", subject.unit.clone().unwrap_or_default()),
        ];
        let numbers = [
            (&value, estimate.value),
            (&sigma, estimate.sigma),
            (&lower, estimate.interval.map(|interval| interval.lo)),
            (&upper, estimate.interval.map(|interval| interval.hi)),
            (&inflation, Some(estimate.inflation)),
        ];
        for (family, number) in numbers {
            if let Some(number) = number {
                family.get_or_create(&labels).set(number);
            }
        }
        consistent.get_or_create(&labels).set(i64::from(estimate.status == Status::Ok));
        tolerated.get_or_create(&labels).set(estimate.tolerates as i64);
        let of = |state: &str| [labels.clone(), vec![("state", state.to_owned())]].concat();
        sensors.get_or_create(&of("used")).set(estimate.used as i64);
        sensors.get_or_create(&of("rejected")).set((estimate.n - estimate.used) as i64);
        sensors.get_or_create(&of("stale")).set(estimate.stale as i64);
    }
    for Standing { channel, verdict } in standing {
        let labels = vec![("channel", channel.to_string()), ("fault", verdict.fault.as_str().to_owned())];
        faults.get_or_create(&labels).set(1);
    }
    registry.register("estimate", "Fused value", value);
    registry.register("estimate_sigma", "Standard uncertainty of the fused value", sigma);
    registry.register("estimate_lower", "Lower end of the fault-tolerant interval", lower);
    registry.register("estimate_upper", "Upper end of the fault-tolerant interval", upper);
    registry.register("estimate_inflation", "By how much sensors disagree more than they claim", inflation);
    registry.register("estimate_ok", "1 while the estimate can be believed", consistent);
    registry.register("estimate_tolerates", "Sensors that may be wrong", tolerated);
    registry.register("estimate_sensors", "Sensors by what became of their readings", sensors);
    registry.register("sensor_fault", "1 while an own sensor has this fault", faults);
    let mut text = String::new();
    encode(&mut text, &registry).expect("writing to a string does not fail");
    text.trim_end_matches("# EOF\n").to_owned()
}
