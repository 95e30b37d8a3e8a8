"""The tables that come with scikit-learn."""

from __future__ import annotations

from metaopt.errors import DataError
from metaopt.tasks.tables.pmlb import Filter, table_from
from metaopt.tasks.tables.table import BadTable, LeftOut, Table, sift
from metaopt.types import Kind

NAMES: dict[str, Kind] = {
    "iris": Kind.classification,
    "wine": Kind.classification,
    "breast_cancer": Kind.classification,
    "digits": Kind.classification,
    "diabetes": Kind.regression,
}


def read_sklearn(wanted: Filter, one_hot: int) -> tuple[list[Table], list[LeftOut]]:
    """The tables that a filter takes; see `read_pmlb`.

    Raises:
        DataError: a name is none of scikit-learn's tables, or one of the other kind.
    """
    for name in wanted.names or ():
        if NAMES.get(name) is not wanted.kind:
            known = ", ".join(known for known, kind in NAMES.items() if kind is wanted.kind)
            raise DataError(
                f"tabular: tasks.names has {name!r}, but scikit-learn's tables for {wanted.kind.value} are {known}; "
                "leave it out"
            )

    def read(name: str) -> Table:
        table = _load(name, wanted.kind, one_hot)
        objection = wanted.objection(table.rows, len(table.columns), len(table.classes))
        if objection is not None:
            raise BadTable(objection)
        return table

    of_kind = [name for name, kind in NAMES.items() if kind is wanted.kind]
    return sift([name for name in of_kind if wanted.names is None or name in wanted.names], read, str)


def _load(name: str, kind: Kind, one_hot: int) -> Table:
    import sklearn.datasets  # noqa: PLC0415 - slow to import, and only tables need it

    load = {
        "iris": sklearn.datasets.load_iris,
        "wine": sklearn.datasets.load_wine,
        "breast_cancer": sklearn.datasets.load_breast_cancer,
        "digits": sklearn.datasets.load_digits,
        "diabetes": sklearn.datasets.load_diabetes,
    }[name]
    return table_from(name, load(as_frame=True).frame, kind, one_hot)
