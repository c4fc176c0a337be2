-- Add what published data says about a molecule and a mixture.
--
-- The compound id at PubChem is the public identity of a molecule: there is one row of each, and data that comes
-- later finds its molecule by it. It stays empty where there is no single structure, as with polymers. Molar masses
-- are in g/mol.

-- migrate:up

ALTER TABLE molecules ADD COLUMN molar_mass NUMERIC(10, 3)
    CONSTRAINT molecules_molar_mass_check CHECK (molar_mass > 0);
ALTER TABLE molecules ADD COLUMN pubchem_cid INTEGER
    CONSTRAINT molecules_pubchem_cid_check CHECK (pubchem_cid > 0);
ALTER TABLE molecules ADD COLUMN description TEXT;
CREATE UNIQUE INDEX molecules_pubchem_cid_idx ON molecules (pubchem_cid);

ALTER TABLE mixtures ADD COLUMN source VARCHAR(255);

-- migrate:down

ALTER TABLE mixtures DROP COLUMN source;

DROP INDEX molecules_pubchem_cid_idx;
ALTER TABLE molecules DROP COLUMN description;
ALTER TABLE molecules DROP COLUMN pubchem_cid;
ALTER TABLE molecules DROP COLUMN molar_mass;
