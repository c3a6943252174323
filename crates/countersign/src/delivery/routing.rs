//! Which provider serves whom, and in which order they are asked.

/// Returns the providers that serve a country, in the order they are asked: those that list it before those that list
/// none, each in the order of the configuration. Who lists only other countries is not asked.
///
/// A number that belongs to no country goes to those that list none.
pub fn serving<'a, P>(
    providers: &'a [P],
    countries: impl Fn(&P) -> &[String],
    country: Option<&str>,
) -> Vec<&'a P> {
    let lists_it = |provider: &&P| {
        countries(provider).iter().any(|listed| country.is_some_and(|country| listed == country))
    };
    let lists_none = |provider: &&P| countries(provider).is_empty();
    providers.iter().filter(lists_it).chain(providers.iter().filter(lists_none)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Provider = (&'static str, Vec<String>);

    fn provider(name: &'static str, countries: &[&str]) -> Provider {
        (name, countries.iter().map(ToString::to_string).collect())
    }

    fn asked(providers: &[Provider], country: Option<&str>) -> Vec<&'static str> {
        serving(providers, |(_, countries)| countries, country).into_iter().map(|(name, _)| *name).collect()
    }

    #[test]
    fn who_lists_the_country_is_asked_first_and_who_lists_others_never() {
        let providers = [
            provider("everywhere", &[]),
            provider("dach", &["DE", "AT", "CH"]),
            provider("america", &["US", "CA"]),
            provider("germany", &["DE"]),
            provider("reserve", &[]),
        ];

        assert_eq!(asked(&providers, Some("DE")), ["dach", "germany", "everywhere", "reserve"]);
        assert_eq!(asked(&providers, Some("US")), ["america", "everywhere", "reserve"]);
        assert_eq!(asked(&providers, Some("JP")), ["everywhere", "reserve"]);
        assert_eq!(asked(&providers, None), ["everywhere", "reserve"]);
    }

    #[test]
    fn nobody_may_serve_a_country() {
        assert!(asked(&[provider("germany", &["DE"])], Some("FR")).is_empty());
        assert!(asked(&[], Some("FR")).is_empty());
    }
}
