"""The tables of CryoProtect as they are after the last migration; a test proves that both are equal."""

from __future__ import annotations

import uuid
from datetime import date, datetime
from decimal import Decimal
from typing import Final

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, Text, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column, relationship

from .database import Base, ExactNumeric, random_uuid

# Every relationship refuses to load by itself: a page says which rows it needs, and cannot fall into one query per row.
_EXPLICIT: Final = "raise"


class Record(Base):
    """What every table has: a key that the database can make, and when a row came and last changed."""

    __abstract__ = True

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True, default=uuid.uuid4, server_default=random_uuid())
    created_at: Mapped[datetime] = mapped_column(server_default=func.now(), sort_order=1)
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now(), onupdate=func.now(), sort_order=2)


class Molecule(Record):
    """A substance. Polymers have no single structure, so everything about the structure may be unknown."""

    __tablename__ = "molecules"

    name: Mapped[str] = mapped_column(String(255))
    formula: Mapped[str | None] = mapped_column(String(255))
    smiles: Mapped[str | None] = mapped_column(Text)
    molar_mass: Mapped[Decimal | None] = mapped_column(
        ExactNumeric(10, 3), CheckConstraint("molar_mass > 0", name="molar_mass")
    )
    """In g/mol."""
    pubchem_cid: Mapped[int | None] = mapped_column(CheckConstraint("pubchem_cid > 0", name="pubchem_cid"))
    """Compound id at PubChem, the public identity of a substance."""
    description: Mapped[str | None] = mapped_column(Text)

    properties: Mapped[list[MolecularProperty]] = relationship(
        back_populates="molecule", lazy=_EXPLICIT, passive_deletes=True
    )
    components: Mapped[list[MixtureComponent]] = relationship(
        back_populates="molecule", lazy=_EXPLICIT, passive_deletes="all"
    )

    __table_args__ = (Index(None, "pubchem_cid", unique=True),)


class PropertyType(Record):
    """What can be known about a molecule or a mixture, with the unit of its values."""

    __tablename__ = "property_types"

    name: Mapped[str] = mapped_column(String(100), unique=True)
    unit: Mapped[str | None] = mapped_column(String(50))
    """None for a number without a dimension."""
    description: Mapped[str | None] = mapped_column(Text)


class MolecularProperty(Record):
    """The accepted value of one property of one molecule."""

    __tablename__ = "molecular_properties"

    molecule_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("molecules.id", ondelete="CASCADE"))
    property_type_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("property_types.id", ondelete="RESTRICT"), index=True
    )
    value: Mapped[float]
    source: Mapped[str | None] = mapped_column(String(255))
    """Where the value was published."""

    molecule: Mapped[Molecule] = relationship(back_populates="properties", lazy=_EXPLICIT)
    property_type: Mapped[PropertyType] = relationship(lazy=_EXPLICIT)

    __table_args__ = (UniqueConstraint("molecule_id", "property_type_id"),)


class Mixture(Record):
    """A solution of several molecules."""

    __tablename__ = "mixtures"

    name: Mapped[str] = mapped_column(String(255))
    description: Mapped[str | None] = mapped_column(Text)
    source: Mapped[str | None] = mapped_column(String(255))
    """Where the composition was published."""

    components: Mapped[list[MixtureComponent]] = relationship(
        back_populates="mixture", lazy=_EXPLICIT, cascade="all, delete-orphan", passive_deletes=True
    )
    predictions: Mapped[list[Prediction]] = relationship(back_populates="mixture", lazy=_EXPLICIT, passive_deletes=True)
    experiments: Mapped[list[Experiment]] = relationship(back_populates="mixture", lazy=_EXPLICIT, passive_deletes=True)

    @property
    def composition(self) -> list[MixtureComponent]:
        """The components, the largest number first; they and their molecules have to be loaded."""
        return sorted(self.components, key=lambda c: (-(c.concentration or 0), c.molecule.name))


class MixtureComponent(Record):
    """How much of one molecule is in a mixture. A molecule that is in use cannot be deleted."""

    __tablename__ = "mixture_components"

    mixture_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("mixtures.id", ondelete="CASCADE"))
    molecule_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("molecules.id", ondelete="RESTRICT"), index=True)
    concentration: Mapped[Decimal | None] = mapped_column(ExactNumeric(10, 5))
    units: Mapped[str | None] = mapped_column(String(50))

    mixture: Mapped[Mixture] = relationship(back_populates="components", lazy=_EXPLICIT)
    molecule: Mapped[Molecule] = relationship(back_populates="components", lazy=_EXPLICIT)

    __table_args__ = (
        UniqueConstraint("mixture_id", "molecule_id"),
        CheckConstraint("concentration >= 0", name="concentration"),
    )


class CalculationMethod(Record):
    """One version of a way to calculate a property."""

    __tablename__ = "calculation_methods"

    name: Mapped[str] = mapped_column(String(100))
    version: Mapped[str] = mapped_column(String(50))
    description: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (UniqueConstraint("name", "version"),)


class Prediction(Record):
    """What a method calculates for one property of a mixture; a method that was used cannot be deleted."""

    __tablename__ = "predictions"

    mixture_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("mixtures.id", ondelete="CASCADE"))
    property_type_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("property_types.id", ondelete="RESTRICT"), index=True
    )
    calculation_method_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("calculation_methods.id", ondelete="RESTRICT"), index=True
    )
    value: Mapped[float]
    uncertainty: Mapped[float | None]
    """Standard deviation, in the unit of the value."""

    mixture: Mapped[Mixture] = relationship(back_populates="predictions", lazy=_EXPLICIT)
    property_type: Mapped[PropertyType] = relationship(lazy=_EXPLICIT)
    calculation_method: Mapped[CalculationMethod] = relationship(lazy=_EXPLICIT)

    __table_args__ = (
        # Named here: the name by the convention is longer than PostgreSQL's 63 characters.
        UniqueConstraint(
            "mixture_id",
            "property_type_id",
            "calculation_method_id",
            name="predictions_mixture_property_method_key",
        ),
        CheckConstraint("uncertainty >= 0", name="uncertainty"),
    )


class Experiment(Record):
    """What was measured for one property of a mixture; the same may be measured many times."""

    __tablename__ = "experiments"

    mixture_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("mixtures.id", ondelete="CASCADE"), index=True)
    property_type_id: Mapped[uuid.UUID] = mapped_column(
        ForeignKey("property_types.id", ondelete="RESTRICT"), index=True
    )
    value: Mapped[float]
    uncertainty: Mapped[float | None]
    """Standard deviation, in the unit of the value."""
    conditions: Mapped[str | None] = mapped_column(Text)
    performed_on: Mapped[date | None]
    source: Mapped[str | None] = mapped_column(String(255))

    mixture: Mapped[Mixture] = relationship(back_populates="experiments", lazy=_EXPLICIT)
    property_type: Mapped[PropertyType] = relationship(lazy=_EXPLICIT)

    __table_args__ = (CheckConstraint("uncertainty >= 0", name="uncertainty"),)
