package sqlite

import (
	"fmt"
	"strings"

	"github.com/FerretDB/FerretDB/internal/backends/sqlite/metadata"
	"github.com/FerretDB/FerretDB/internal/handler/sjson"
	"github.com/FerretDB/FerretDB/internal/types"
	"github.com/FerretDB/FerretDB/internal/util/must"
)

// byIDs narrows a query down to the documents whose _id the filter names: one string or {"$in": strings}, whatever
// else it asks for. By itself FerretDB has SQLite look for an id only where the filter is nothing but one, and reads
// the whole collection for every conditional update. What is found is compared with the whole filter afterwards, as
// ever: this changes what is read, never what matches.
func byIDs(filter *types.Document) (string, []any) {
	value, _ := filter.Get("_id")
	var ids []any
	switch value := value.(type) {
	case string:
		ids = []any{value}
	case *types.Document:
		array := must.NotFail(types.NewArray())
		if in, _ := value.Get("$in"); value.Len() == 1 && in != nil {
			array, _ = in.(*types.Array)
		}
		for i := 0; array != nil && i < array.Len(); i++ {
			id, ok := must.NotFail(array.Get(i)).(string)
			if !ok {
				return "", nil
			}
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return "", nil
	}
	for i, id := range ids {
		ids[i] = string(must.NotFail(sjson.MarshalSingleValue(id)))
	}
	marks := strings.Repeat(", ?", len(ids))[2:]
	return fmt.Sprintf(" WHERE %s IN (%s)", metadata.IDColumn, marks), ids
}
