-- Add well-known cryoprotectants and published values of their properties.
--
-- Molecules: formula, molar mass in g/mol, SMILES without stereochemistry and compound id as PubChem has them.
-- Properties: each value says where it was published; there is none where no value is well established.

-- migrate:up

INSERT INTO molecules (pubchem_cid, name, formula, molar_mass, smiles, description) VALUES
    (679, 'Dimethyl sulfoxide (DMSO)', 'C2H6OS', 78.14, 'CS(=O)C',
        'Enters cells quickly; the most widely used cryoprotectant for cells.'),
    (753, 'Glycerol', 'C3H8O3', 92.09, 'C(C(CO)O)O',
        'The first cryoprotectant to be found, in 1949; still used for sperm and red blood cells.'),
    (174, 'Ethylene glycol', 'C2H6O2', 62.07, 'C(CO)O',
        'Small and quick to enter cells; used for oocytes and embryos.'),
    (1030, 'Propylene glycol', 'C3H8O2', 76.09, 'CC(CO)O',
        '1,2-Propanediol; a strong glass former, used for embryos and in vitrification solutions.'),
    (10442, '1,3-Propanediol', 'C3H8O2', 76.09, 'C(CO)CO', NULL),
    (262, '2,3-Butanediol', 'C4H10O2', 90.12, 'CC(C(C)O)O',
        'One of the strongest glass formers among the diols.'),
    (887, 'Methanol', 'CH4O', 32.042, 'CO', 'Used for sperm and embryos of fish.'),
    (702, 'Ethanol', 'C2H6O', 46.07, 'CCO', NULL),
    (713, 'Formamide', 'CH3NO', 45.041, 'C(=O)N', 'A component of VS55 and M22.'),
    (31254, 'N-Methylformamide', 'C2H5NO', 59.07, 'CNC=O', 'A component of M22.'),
    (178, 'Acetamide', 'C2H5NO', 59.07, 'CC(=O)N', NULL),
    (1176, 'Urea', 'CH4N2O', 60.056, 'C(=O)(N)N', NULL),
    (145742, 'L-Proline', 'C5H9NO2', 115.13, 'C1CC(NC1)C(=O)O',
        'An amino acid that many plants and insects gather against cold.'),
    (247, 'Betaine', 'C5H11NO2', 117.15, 'C[N+](C)(C)CC(=O)[O-]', NULL),
    (5793, 'D-Glucose', 'C6H12O6', 180.16, 'C(C1C(C(C(C(O1)O)O)O)O)O', NULL),
    (6251, 'D-Mannitol', 'C6H14O6', 182.17, 'C(C(C(C(C(CO)O)O)O)O)O', NULL),
    (5988, 'Sucrose', 'C12H22O11', 342.30, 'C(C1C(C(C(C(O1)OC2(C(C(C(O2)CO)O)O)CO)O)O)O)O',
        'Stays outside cells and draws water out of them before cooling.'),
    (7427, 'Trehalose', 'C12H22O11', 342.30, 'C(C1C(C(C(C(O1)OC2C(C(C(C(O2)CO)O)O)O)O)O)O)O',
        'Stays outside cells; protects membranes and proteins while they are dried or frozen.'),
    (439242, 'Raffinose', 'C18H32O16', 504.44,
        'C(C1C(C(C(C(O1)OCC2C(C(C(C(O2)OC3(C(C(C(O3)CO)O)O)CO)O)O)O)O)O)O)O',
        'Used together with skim milk for the sperm of mice.');

INSERT INTO property_types (name, unit, description) VALUES
    ('Melting point', '°C', 'At normal pressure.'),
    ('Density', 'g/cm³', 'Of the pure liquid at 20 °C.'),
    ('logP', NULL, 'Decimal logarithm of the partition coefficient between octanol and water, measured.'),
    ('Critical cooling rate', '°C/min', 'The slowest cooling at which a solution still vitrifies.'),
    ('Critical warming rate', '°C/min', 'The slowest warming at which a vitrified solution does not crystallise.');

WITH published (pubchem_cid, property, value, source) AS (
    VALUES
        (679, 'Melting point', 17.89, 'CRC Handbook of Chemistry and Physics'),
        (753, 'Melting point', 18.1, 'CRC Handbook of Chemistry and Physics'),
        (174, 'Melting point', -12.69, 'CRC Handbook of Chemistry and Physics'),
        (1030, 'Melting point', -60, 'CRC Handbook of Chemistry and Physics'),
        (10442, 'Melting point', -27.7, 'CRC Handbook of Chemistry and Physics'),
        (887, 'Melting point', -97.53, 'CRC Handbook of Chemistry and Physics'),
        (702, 'Melting point', -114.14, 'CRC Handbook of Chemistry and Physics'),
        (713, 'Melting point', 2.49, 'CRC Handbook of Chemistry and Physics'),
        (31254, 'Melting point', -3.8, 'CRC Handbook of Chemistry and Physics'),
        (178, 'Melting point', 80.16, 'CRC Handbook of Chemistry and Physics'),

        (753, 'Density', 1.2613, 'CRC Handbook of Chemistry and Physics'),
        (174, 'Density', 1.1135, 'CRC Handbook of Chemistry and Physics'),
        (1030, 'Density', 1.0361, 'CRC Handbook of Chemistry and Physics'),
        (887, 'Density', 0.7914, 'CRC Handbook of Chemistry and Physics'),
        (702, 'Density', 0.7893, 'CRC Handbook of Chemistry and Physics'),
        (713, 'Density', 1.1334, 'CRC Handbook of Chemistry and Physics'),

        (679, 'logP', -1.35, 'Hansch, Leo, Hoekman: Exploring QSAR, 1995'),
        (753, 'logP', -1.76, 'Hansch, Leo, Hoekman: Exploring QSAR, 1995'),
        (174, 'logP', -1.36, 'Hansch, Leo, Hoekman: Exploring QSAR, 1995'),
        (1030, 'logP', -0.92, 'Hansch, Leo, Hoekman: Exploring QSAR, 1995'),
        (10442, 'logP', -1.04, 'Hansch, Leo, Hoekman: Exploring QSAR, 1995'),
        (262, 'logP', -0.92, 'Hansch, Leo, Hoekman: Exploring QSAR, 1995'),
        (887, 'logP', -0.77, 'Hansch, Leo, Hoekman: Exploring QSAR, 1995'),
        (702, 'logP', -0.31, 'Hansch, Leo, Hoekman: Exploring QSAR, 1995'),
        (713, 'logP', -1.51, 'Hansch, Leo, Hoekman: Exploring QSAR, 1995'),
        (31254, 'logP', -0.97, 'Hansch, Leo, Hoekman: Exploring QSAR, 1995'),
        (178, 'logP', -1.26, 'Hansch, Leo, Hoekman: Exploring QSAR, 1995'),
        (1176, 'logP', -2.11, 'Hansch, Leo, Hoekman: Exploring QSAR, 1995'),
        (5793, 'logP', -3.24, 'Hansch, Leo, Hoekman: Exploring QSAR, 1995'),
        (6251, 'logP', -3.10, 'Hansch, Leo, Hoekman: Exploring QSAR, 1995'),
        (5988, 'logP', -3.70, 'Hansch, Leo, Hoekman: Exploring QSAR, 1995')
)
INSERT INTO molecular_properties (molecule_id, property_type_id, value, source)
SELECT molecules.id, property_types.id, published.value, published.source
FROM published
JOIN molecules ON molecules.pubchem_cid = published.pubchem_cid
JOIN property_types ON property_types.name = published.property;

-- migrate:down

-- A molecule that a mixture contains is not deleted: the database refuses, and the mixture has to go first.

DELETE FROM molecular_properties WHERE molecule_id IN (
    SELECT id FROM molecules WHERE pubchem_cid IN (
        679, 753, 174, 1030, 10442, 262, 887, 702, 713, 31254, 178, 1176, 145742, 247, 5793, 6251, 5988, 7427, 439242
    )
);
DELETE FROM molecules WHERE pubchem_cid IN (
    679, 753, 174, 1030, 10442, 262, 887, 702, 713, 31254, 178, 1176, 145742, 247, 5793, 6251, 5988, 7427, 439242
);
DELETE FROM property_types WHERE name IN (
    'Melting point', 'Density', 'logP', 'Critical cooling rate', 'Critical warming rate'
);
