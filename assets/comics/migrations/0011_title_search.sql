-- comics 0011: The search for a title, misspelt or not, in the time of a click
--
-- Comparing a misspelt title with every title by trigrams looks at thousands of them: the issues of a series share all
-- but a few. Series are a hundredth as many, so the nearest series are found first (GiST gives them in order of
-- distance; GIN cannot), and then among their issues those with the number that was asked for.

-- migrate: up
DROP INDEX comics.series_name_trigram;
CREATE INDEX series_name_nearest ON comics.series USING gist (lower(name) gist_trgm_ops);

CREATE FUNCTION comics.search_titles(query text, max_rows integer DEFAULT 20)
RETURNS TABLE (comic_id uuid, title text, has_all_words boolean, similarity real)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
  WITH nearest AS (
    SELECT series_id FROM comics.series ORDER BY lower(name) <-> lower(query) LIMIT 30
  ),
  numbered AS (
    SELECT found.* FROM nearest, LATERAL (
      SELECT comics.comic_id, comics.title, comics.title_search FROM comics.comics
      WHERE comics.series_id = nearest.series_id AND comics.issue_sort = ANY (ARRAY(
        SELECT number[1]::numeric
        FROM regexp_matches(query, '(?<![[:alnum:]])(\d{1,9}(?:\.\d{1,3})?)(?![[:alnum:]])', 'g') AS number))
      LIMIT 50) AS found
  ),
  candidates AS (
    SELECT * FROM numbered
    UNION
    SELECT found.* FROM nearest, LATERAL (
      SELECT comics.comic_id, comics.title, comics.title_search FROM comics.comics
      WHERE comics.series_id = nearest.series_id ORDER BY comics.issue_sort, comics.issue_number LIMIT 20) AS found
    WHERE NOT EXISTS (SELECT FROM numbered)
    UNION
    (SELECT comics.comic_id, comics.title, comics.title_search FROM comics.comics
     WHERE comics.title_search @@ plainto_tsquery('simple', query) LIMIT 500)
  ),
  -- Materialised: a similarity costs more than all else, and would be computed for each use of it.
  judged AS MATERIALIZED (
    SELECT candidates.comic_id, candidates.title,
           candidates.title_search @@ plainto_tsquery('simple', query) AS has_all_words,
           similarity(lower(candidates.title), lower(query)) AS similarity
    FROM candidates
  )
  SELECT * FROM judged WHERE judged.has_all_words OR judged.similarity >= 0.2
  ORDER BY judged.has_all_words DESC, judged.similarity DESC, judged.title, judged.comic_id LIMIT max_rows;
END;
COMMENT ON FUNCTION comics.search_titles(text, integer) IS
  'Comics whose title or variant has all words of the query, then those with the nearest titles by trigrams (0..1, at least 0.2), '
  'best first. Of more than 500 comics with all words, any 500 are ranked';

-- migrate: down
DROP FUNCTION comics.search_titles(text, integer);
DROP INDEX comics.series_name_nearest;
CREATE INDEX series_name_trigram ON comics.series USING gin (lower(name) gin_trgm_ops);
