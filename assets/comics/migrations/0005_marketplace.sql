-- comics 0005: The guide's own marketplace: listings and transactions

-- migrate: up
CREATE TABLE comics.marketplace_listings (
  listing_id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  collection_item_id       bigint REFERENCES comics.collection_items ON DELETE SET NULL,
  relisted_from_listing_id bigint REFERENCES comics.marketplace_listings ON DELETE SET NULL,
  listed_at                timestamptz NOT NULL,
  expires_at               timestamptz,
  closed_at                timestamptz,
  created_at               timestamptz NOT NULL DEFAULT now(),
  updated_at               timestamptz NOT NULL DEFAULT now(),
  quantity                 integer NOT NULL DEFAULT 1 CHECK (quantity > 0),
  seller_id                uuid NOT NULL REFERENCES comics.users,
  comic_id                 uuid NOT NULL REFERENCES comics.comics,
  asking_price             numeric(12,2) NOT NULL CHECK (asking_price > 0 AND asking_price <> 'NaN'),
  grade                    numeric(3,1) CHECK (grade BETWEEN 0.3 AND 10),
  currency                 text NOT NULL DEFAULT 'USD' CHECK (currency ~ '^[A-Z]{3}$'),
  status                   text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'sold', 'expired', 'withdrawn')),
  grade_band               text GENERATED ALWAYS AS (comics.grade_band(grade)) STORED,
  title                    text NOT NULL CHECK (title <> ''),
  title_search             tsvector GENERATED ALWAYS AS (to_tsvector('simple'::regconfig, title)) STORED,
  description              text,
  metadata                 jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
  CONSTRAINT closed_listings_say_when CHECK ((status = 'active') = (closed_at IS NULL)),
  CONSTRAINT listing_closes_after_it_opens CHECK (closed_at >= listed_at),
  CONSTRAINT listing_expires_after_it_opens CHECK (expires_at > listed_at),
  CONSTRAINT listing_is_not_relisted_from_itself CHECK (relisted_from_listing_id <> listing_id)
);
COMMENT ON TABLE comics.marketplace_listings IS 'Comics that users offer for sale';
COMMENT ON COLUMN comics.marketplace_listings.asking_price IS 'For one copy';
COMMENT ON COLUMN comics.marketplace_listings.relisted_from_listing_id IS 'The listing that expired before this one was made from it';
CREATE INDEX marketplace_listings_offers ON comics.marketplace_listings (comic_id, grade_band, asking_price) WHERE status = 'active';
CREATE INDEX marketplace_listings_by_comic ON comics.marketplace_listings (comic_id, listed_at DESC);
CREATE INDEX marketplace_listings_by_seller ON comics.marketplace_listings (seller_id, listed_at DESC);
CREATE INDEX marketplace_listings_newest ON comics.marketplace_listings (listed_at DESC) WHERE status = 'active';
CREATE INDEX marketplace_listings_to_expire ON comics.marketplace_listings (expires_at) WHERE status = 'active';
CREATE INDEX marketplace_listings_closed ON comics.marketplace_listings (closed_at DESC) WHERE closed_at IS NOT NULL;
CREATE UNIQUE INDEX marketplace_listings_one_per_item ON comics.marketplace_listings (collection_item_id) WHERE status = 'active';
CREATE INDEX marketplace_listings_by_item ON comics.marketplace_listings (collection_item_id) WHERE collection_item_id IS NOT NULL;
CREATE INDEX marketplace_listings_relisted ON comics.marketplace_listings (relisted_from_listing_id)
  WHERE relisted_from_listing_id IS NOT NULL;
CREATE INDEX marketplace_listings_title_search ON comics.marketplace_listings USING gin (title_search);
CREATE INDEX marketplace_listings_title_trigram ON comics.marketplace_listings USING gin (lower(title) gin_trgm_ops);
-- One index answers "active, and with these attributes": btree_gin lets a plain column stand beside the document.
CREATE INDEX marketplace_listings_attributes ON comics.marketplace_listings USING gin (status, metadata jsonb_path_ops);

CREATE TABLE comics.marketplace_transactions (
  transaction_id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  listing_id             bigint REFERENCES comics.marketplace_listings ON DELETE SET NULL,
  refunds_transaction_id bigint REFERENCES comics.marketplace_transactions,
  sold_at                timestamptz NOT NULL,
  completed_at           timestamptz,
  created_at             timestamptz NOT NULL DEFAULT now(),
  updated_at             timestamptz NOT NULL DEFAULT now(),
  quantity               integer NOT NULL DEFAULT 1 CHECK (quantity > 0),
  buyer_id               uuid REFERENCES comics.users,
  seller_id              uuid REFERENCES comics.users,
  comic_id               uuid NOT NULL REFERENCES comics.comics,
  unit_price             numeric(12,2) NOT NULL CHECK (unit_price >= 0 AND unit_price <> 'NaN'),
  fee_amount             numeric(12,2) NOT NULL DEFAULT 0 CHECK (fee_amount >= 0 AND fee_amount <> 'NaN'),
  total_price            numeric(16,2) GENERATED ALWAYS AS (unit_price * quantity) STORED,
  currency               text NOT NULL DEFAULT 'USD' CHECK (currency ~ '^[A-Z]{3}$'),
  status                 text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'completed', 'refunded', 'cancelled')),
  metadata               jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
  CONSTRAINT nobody_buys_from_himself CHECK (buyer_id <> seller_id),
  CONSTRAINT completed_transactions_say_when CHECK (status <> 'completed' OR completed_at IS NOT NULL),
  CONSTRAINT fee_is_part_of_the_price CHECK (fee_amount <= unit_price * quantity),
  CONSTRAINT transaction_does_not_refund_itself CHECK (refunds_transaction_id <> transaction_id)
);
COMMENT ON TABLE comics.marketplace_transactions IS 'Sales between users, kept for the seven years that book-keeping asks for';
COMMENT ON COLUMN comics.marketplace_transactions.buyer_id IS 'Null once the buyer was erased: the sale stays on the books';
COMMENT ON COLUMN comics.marketplace_transactions.seller_id IS 'Null once the seller was erased';
COMMENT ON COLUMN comics.marketplace_transactions.refunds_transaction_id IS 'For a refund: the sale it takes back';
COMMENT ON COLUMN comics.marketplace_transactions.fee_amount IS 'Our part of the price: the revenue';
CREATE INDEX marketplace_transactions_by_comic ON comics.marketplace_transactions (comic_id, sold_at DESC);
CREATE INDEX marketplace_transactions_by_buyer ON comics.marketplace_transactions (buyer_id, sold_at DESC);
CREATE INDEX marketplace_transactions_by_seller ON comics.marketplace_transactions (seller_id, sold_at DESC);
CREATE INDEX marketplace_transactions_by_listing ON comics.marketplace_transactions (listing_id);
CREATE INDEX marketplace_transactions_refunds ON comics.marketplace_transactions (refunds_transaction_id)
  WHERE refunds_transaction_id IS NOT NULL;
CREATE INDEX marketplace_transactions_revenue ON comics.marketplace_transactions (sold_at) INCLUDE (fee_amount, currency)
  WHERE status = 'completed';
CREATE INDEX marketplace_transactions_open ON comics.marketplace_transactions (sold_at) WHERE status = 'pending';

ALTER TABLE comics.collection_items ADD CONSTRAINT collection_items_acquired_transaction_id_fkey
  FOREIGN KEY (acquired_transaction_id) REFERENCES comics.marketplace_transactions ON DELETE SET NULL;

CREATE TRIGGER marketplace_listings_timestamps BEFORE UPDATE ON comics.marketplace_listings
  FOR EACH ROW EXECUTE FUNCTION comics.keep_timestamps();
CREATE TRIGGER marketplace_transactions_timestamps BEFORE UPDATE ON comics.marketplace_transactions
  FOR EACH ROW EXECUTE FUNCTION comics.keep_timestamps();

-- migrate: down
ALTER TABLE comics.collection_items DROP CONSTRAINT collection_items_acquired_transaction_id_fkey;
DROP TABLE comics.marketplace_transactions, comics.marketplace_listings;
