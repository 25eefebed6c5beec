package tag

import "github.com/uptrace/bun"

type tag struct {
	bun.BaseModel `bun:"table:tag"`

	ID        string `bun:"id,pk"`
	Company   int64  `bun:"company"`
	Key       string `bun:"key"`
	Value     string `bun:"value"`
	CreatedAt int64  `bun:"created_at"`
}

type binding struct {
	bun.BaseModel `bun:"table:tag_binding"`

	ResourceID string `bun:"resource_id,pk"`
	Key        string `bun:"key,pk"`
	Value      string `bun:"value"`
	Company    int64  `bun:"company"`
	Region     string `bun:"region"`
	Kind       string `bun:"kind"`
	CreatedAt  int64  `bun:"created_at"`
}
