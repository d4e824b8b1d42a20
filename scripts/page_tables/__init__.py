"""The tables of README and docs, each from results that are committed."""

from collections.abc import Callable

from scripts.page_tables import accuracy, files, good_for, speed

TABLES: dict[str, Callable[[], str]] = {
    table.__name__: table
    for table in (
        accuracy.elastic_sizes,
        accuracy.methods,
        accuracy.rates,
        accuracy.routes,
        accuracy.sizes,
        accuracy.tasks_in_pools,
        files.precisions,
        files.smallest_files,
        files.ways_to_small_files,
        good_for.good_for,
        speed.feathermap,
        speed.input_speed,
        speed.on_a_tpu,
        speed.presets,
        speed.slices,
        speed.speed,
        speed.transformers,
        speed.transformers_on_a_tpu,
    )
}
