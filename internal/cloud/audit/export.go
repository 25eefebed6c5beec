package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/spreadsheet"
)

// exportLife is how long a link to an export holds.
const exportLife = 15 * time.Minute

type exportOPLogsRequest struct {
	BeginTime   int64  `validate:"required" doc:"unix seconds"`
	EndTime     int64  `validate:"required" doc:"unix seconds, at most 184 days after BeginTime"`
	ProductType string `doc:"module of the action, as vm or eip"`
	IsSuccess   string `validate:"omitempty,oneof=Yes No" doc:"final outcome"`
	Keyword     string `doc:"part of an action's name, an operator's e-mail or a resource id"`
	ResourceID  string `doc:"related resource"`
	action.Tenant
}

type exportOPLogsResponse struct {
	URL      string `doc:"holds for 15 minutes"`
	FileName string
}

func (s *Service) exportOPLogs(_ context.Context, c *action.Call, q *exportOPLogsRequest) (*exportOPLogsResponse, error) {
	begin, end, err := window(fmt.Sprint(q.BeginTime), fmt.Sprint(q.EndTime))
	if err != nil {
		return nil, err
	}
	name := fmt.Sprintf("oplogs-%s-%s.xlsx", time.Unix(begin, 0).UTC().Format("20060102"), time.Unix(end, 0).UTC().Format("20060102"))
	f := filter{Begin: begin, End: end, Module: q.ProductType, IsSuccess: q.IsSuccess, Keyword: q.Keyword, ResourceID: q.ResourceID}
	url, err := s.Downloads.Link(c, exportKind, name, f, exportLife)
	return &exportOPLogsResponse{URL: url, FileName: name}, err
}

const exportKind = "oplogs"

// exportBatch is how many entries are read at once.
const exportBatch = 1000

// export writes the chosen entries, the newest first. Later entries than the first one read do not appear.
func (s *Service) export(ctx context.Context, w http.ResponseWriter, c *action.Call, args json.RawMessage) error {
	var f filter
	if err := json.Unmarshal(args, &f); err != nil {
		return err
	}
	w.Header().Set("Content-Type", spreadsheet.XLSXType)
	header := []string{"Time (UTC)", "Action", "Module", "Operator", "Client", "Region", "Resources", "Code", "Message", "Request"}
	return spreadsheet.XLSX(w, "oplogs", header, func(each func([]any) error) error {
		last, id := int64(1)<<62, int64(1)<<62
		for {
			var rows []entry
			sel := f.narrow(s.DB.Reader().NewSelect().Model(&rows), c).Where("(created_at < ? OR created_at = ? AND id < ?)", last, last, id)
			if err := sel.Order("created_at DESC", "id DESC").Limit(exportBatch).Scan(ctx); err != nil {
				return err
			}
			for _, e := range rows {
				i := e.info(c.Language)
				if err := each([]any{time.UnixMicro(e.CreatedAt).UTC().Format(time.DateTime), e.Action, e.Module, e.Email, e.ClientIP, e.Region,
					strings.Join(i.ResourceIDs, " "), e.Code, i.Message, e.Request}); err != nil {
					return err
				}
				last, id = e.CreatedAt, e.ID
			}
			if len(rows) < exportBatch {
				return nil
			}
		}
	})
}
