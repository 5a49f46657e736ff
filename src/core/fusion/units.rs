//! Converting between units of the same dimension, as people write them, by the tables of `uom`.

use std::str::FromStr;

use uom::si::f64 as q;

/// A conversion: `to = scale * from + offset`. Uncertainties convert by `scale` alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Conversion {
    scale: f64,
    offset: f64,
}

/// Why one unit is not converted to another. The reading takes no part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{from} does not convert to {to}")]
pub struct UnitError {
    /// The unit that is at hand.
    pub from: String,
    /// The unit that is wanted.
    pub to: String,
}

impl Conversion {
    /// Changes nothing.
    pub const IDENTITY: Self = Self { scale: 1.0, offset: 0.0 };

    /// Finds the conversion between two units. The same unit converts to itself, whether the tables know it or not.
    ///
    /// # Errors
    /// [`UnitError`] names both if they measure different things, or the tables do not know one of them.
    pub fn between(from: Option<&str>, to: &str) -> Result<Self, UnitError> {
        let from_text = from.unwrap_or_default();
        if from_text == to || alias(from_text) == alias(to) {
            return Ok(Self::IDENTITY);
        }
        let unknown = || UnitError {
            from: if from_text.is_empty() { "no unit".into() } else { from_text.into() },
            to: to.into(),
        };
        let known = DIMENSIONS.iter().find_map(|base| Some((base(from_text)?, base(to)?)));
        let (from, to) = known.ok_or_else(unknown)?;
        Ok(Self { scale: from.scale / to.scale, offset: (from.offset - to.offset) / to.scale })
    }

    /// A value in the other unit.
    pub fn value(self, value: f64) -> f64 {
        if self == Self::IDENTITY { value } else { self.scale * value + self.offset }
    }

    /// A standard uncertainty in the other unit.
    pub fn sigma(self, sigma: f64) -> f64 {
        self.scale.abs() * sigma
    }
}

/// A unit in terms of its dimension's base unit.
type Base = fn(&str) -> Option<Conversion>;

macro_rules! dimensions {
    ($($quantity:ident),+ $(,)?) => {
        &[$(|unit| {
            let base = |value: &str| q::$quantity::from_str(&format!("{value} {}", alias(unit))).ok().map(|q| q.value);
            let (zero, one) = (base("0")?, base("1")?);
            Some(Conversion { scale: one - zero, offset: zero })
        }),+]
    };
}

const DIMENSIONS: &[Base] = dimensions![
    ThermodynamicTemperature,
    Pressure,
    Ratio,
    ElectricPotential,
    ElectricCurrent,
    ElectricalResistance,
    Power,
    Energy,
    Illuminance,
    Frequency,
    Length,
    Mass,
    Time,
    Velocity,
    Acceleration,
    Force,
    Volume,
    VolumeRate,
    Information,
    InformationRate,
    Angle,
    MagneticFluxDensity,
    MassConcentration,
    MassDensity,
    Radioactivity,
];

/// What people write, as the tables have it. A sensor's `C` is Celsius, not coulomb.
fn alias(unit: &str) -> &str {
    match unit.trim() {
        "C" | "degC" | "celsius" | "Celsius" => "°C",
        "F" | "degF" | "fahrenheit" | "Fahrenheit" => "°F",
        "%RH" | "percent" | "pct" => "%",
        "lux" => "lx",
        "mBar" => "mbar",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn convert(value: f64, from: &str, to: &str) -> f64 {
        Conversion::between(Some(from), to).unwrap().value(value)
    }

    #[test]
    fn compatible_units_convert() {
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9 * b.abs().max(1.0), "{a} is not {b}");
        near(convert(68.0, "°F", "°C"), 20.0);
        near(convert(20.0, "°C", "K"), 293.15);
        near(convert(1013.25, "hPa", "Pa"), 101_325.0);
        near(convert(1.5, "km", "m"), 1500.0);
        near(convert(2500.0, "mV", "V"), 2.5);
        near(convert(50.0, "%RH", "%"), 50.0);
        near(Conversion::between(Some("°F"), "°C").unwrap().sigma(1.8), 1.0);
        assert_eq!(convert(7.0, "furlongs per fortnight", "furlongs per fortnight"), 7.0);
    }

    #[test]
    fn what_does_not_convert_names_both() {
        let why = |from: Option<&str>, to: &str| Conversion::between(from, to).unwrap_err().to_string();
        assert_eq!(why(Some("hPa"), "°C"), "hPa does not convert to °C");
        assert_eq!(why(None, "°C"), "no unit does not convert to °C");
        assert_eq!(why(Some("bananas"), "°C"), "bananas does not convert to °C");
    }

    #[test]
    fn units_that_are_not_basic_are_reached_too() {
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9 * b.abs().max(1.0), "{a} is not {b}");
        near(convert(20.0, "°C", "°F"), 68.0);
        near(convert(101_325.0, "Pa", "hPa"), 1013.25);
        near(convert(1500.0, "m", "km"), 1.5);
        near(Conversion::between(Some("°F"), "°C").unwrap().sigma(3.6), 2.0);
    }
}
