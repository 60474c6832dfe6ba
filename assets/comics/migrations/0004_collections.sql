-- comics 0004: Collections and the copies in them

-- migrate: up
CREATE TABLE comics.collections (
  created_at           timestamptz NOT NULL DEFAULT now(),
  updated_at           timestamptz NOT NULL DEFAULT now(),
  collection_id        uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  user_id              uuid NOT NULL REFERENCES comics.users,
  parent_collection_id uuid REFERENCES comics.collections,
  cover_comic_id       uuid REFERENCES comics.comics ON DELETE SET NULL,
  name                 text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
  description          text,
  visibility           text NOT NULL DEFAULT 'private' CHECK (visibility IN ('private', 'shared', 'public')),
  metadata             jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
  CONSTRAINT collection_is_not_in_itself CHECK (parent_collection_id <> collection_id)
);
COMMENT ON TABLE comics.collections IS 'Named collections of comics that a user keeps';
COMMENT ON COLUMN comics.collections.parent_collection_id IS 'The collection this one is a part of: a box on a shelf';
CREATE UNIQUE INDEX collections_one_per_name ON comics.collections (user_id, lower(name));
CREATE INDEX collections_by_parent ON comics.collections (parent_collection_id) WHERE parent_collection_id IS NOT NULL;
CREATE INDEX collections_by_cover ON comics.collections (cover_comic_id) WHERE cover_comic_id IS NOT NULL;
CREATE INDEX collections_public ON comics.collections (updated_at DESC) WHERE visibility = 'public';

CREATE TABLE comics.collection_items (
  item_id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  acquired_transaction_id bigint,
  created_at              timestamptz NOT NULL DEFAULT now(),
  updated_at              timestamptz NOT NULL DEFAULT now(),
  acquired_on             date,
  quantity                integer NOT NULL DEFAULT 1 CHECK (quantity > 0),
  collection_id           uuid NOT NULL REFERENCES comics.collections ON DELETE CASCADE,
  comic_id                uuid NOT NULL REFERENCES comics.comics,
  grade                   numeric(3,1) CHECK (grade BETWEEN 0.3 AND 10),
  grade_band              text GENERATED ALWAYS AS (comics.grade_band(grade)) STORED,
  price_paid              numeric(12,2) CHECK (price_paid >= 0 AND price_paid <> 'NaN'),
  currency                text NOT NULL DEFAULT 'USD' CHECK (currency ~ '^[A-Z]{3}$'),
  grader                  text,
  certificate_number      text,
  notes                   text,
  metadata                jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
  CONSTRAINT certificates_have_a_grader CHECK (certificate_number IS NULL OR grader IS NOT NULL),
  CONSTRAINT a_slab_is_one_copy CHECK (certificate_number IS NULL OR quantity = 1)
);
COMMENT ON TABLE comics.collection_items IS 'Copies of comics in a collection, with grade and price paid; they go with their collection';
COMMENT ON COLUMN comics.collection_items.acquired_transaction_id IS 'The purchase on our marketplace it came from';
COMMENT ON COLUMN comics.collection_items.price_paid IS 'For one copy';
CREATE INDEX collection_items_by_collection ON comics.collection_items (collection_id, comic_id);
CREATE INDEX collection_items_by_comic ON comics.collection_items (comic_id, grade_band);
CREATE UNIQUE INDEX collection_items_one_per_slab ON comics.collection_items (collection_id, grader, certificate_number)
  WHERE certificate_number IS NOT NULL;
CREATE INDEX collection_items_by_purchase ON comics.collection_items (acquired_transaction_id)
  WHERE acquired_transaction_id IS NOT NULL;

CREATE TRIGGER collections_timestamps BEFORE UPDATE ON comics.collections
  FOR EACH ROW EXECUTE FUNCTION comics.keep_timestamps();
CREATE TRIGGER collection_items_timestamps BEFORE UPDATE ON comics.collection_items
  FOR EACH ROW EXECUTE FUNCTION comics.keep_timestamps();

-- migrate: down
DROP TABLE comics.collection_items, comics.collections;
