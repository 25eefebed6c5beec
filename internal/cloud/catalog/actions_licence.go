package catalog

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
)

func (s *Service) licenceActions() []action.Action {
	return []action.Action{
		action.Define(action.Spec{Name: "AddRegion", Module: "config", Region: action.RegionNone, Admin: true, System: true, Mutates: true,
			Summary: "Take a region under management."}, s.addRegion),
		action.Define(action.Spec{Name: "UpdateRegion", Module: "config", Admin: true, Mutates: true,
			Summary: "Change name, city and address of a region."}, s.updateRegion),
		action.Define(action.Spec{Name: "CollectLicenseInfo", Module: "license", Region: action.RegionNone, Admin: true, Extension: true,
			Summary: "Return the bundle that a licence is issued for."}, s.collectLicence),
		action.Define(action.Spec{Name: "UploadLicense", Module: "license", Region: action.RegionNone, Admin: true, System: true, Mutates: true, Extension: true,
			Summary: "Install a licence and activate its regions."}, s.uploadLicence),
		action.Define(action.Spec{Name: "DescribeLicense", Module: "license", Region: action.RegionNone, Admin: true, Extension: true,
			Summary: "List licence items."}, s.describeLicence),
		action.Define(action.Spec{Name: "DescribeLicenseNode", Module: "license", Region: action.RegionNone, Admin: true, Extension: true,
			Summary: "List licensed nodes."}, s.describeLicenceNode),
	}
}

// known refuses a region that is not under management (403).
func (s *Service) known(ctx context.Context, ids ...string) error {
	regions, err := s.RegionIDs(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if !slices.Contains(regions, id) {
			return retcode.SystemNotFound.Errorf("Region %q", id)
		}
	}
	return nil
}

type addRegionRequest struct {
	RegionID    string `validate:"required" doc:"2 to 30 of lower-case letters, digits and hyphens"`
	RegionIP    string `validate:"required" doc:"address of the region's management"`
	RegionToken string `validate:"required,max=100000" doc:"the licence that activates it, base64"`
	CMPIP       string `doc:"address of this platform; empty: the configured one"`
}

// addRegion makes a region of the licence that activates it. Repeated with a later licence it renews it.
func (s *Service) addRegion(ctx context.Context, c *action.Call, q *addRegionRequest) (*action.Empty, error) {
	if len(q.RegionID) < 2 || len(q.RegionID) > 30 || strings.Trim(q.RegionID, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || q.RegionID[0] == '-' {
		return nil, retcode.InvalidParameter.Errorf("RegionID has 2 to 30 lower-case letters, digits and hyphens")
	}
	for name, ip := range map[string]string{"RegionIP": q.RegionIP, "CMPIP": q.CMPIP} {
		if _, err := netip.ParseAddr(ip); err != nil && ip != "" {
			return nil, retcode.InvalidParameterFormat.Errorf("%s must be an address", name)
		}
	}
	f, err := s.checkLicence(ctx, q.RegionToken, "")
	if err != nil {
		return nil, err
	}
	if !slices.Contains(f.Licence.Regions, q.RegionID) {
		return nil, retcode.RegionActivationFailed.Errorf("licence %s is not for region %s", f.Licence.ID, q.RegionID)
	}
	c.AddResource(q.RegionID)
	now := s.Clock.Micros()
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		if _, err := tx.NewInsert().Model(&region{ID: q.RegionID, Alias: q.RegionID, Endpoint: q.RegionIP, CreatedAt: now, UpdatedAt: now}).
			On("CONFLICT (id) DO UPDATE").Set("endpoint = EXCLUDED.endpoint").Set("updated_at = EXCLUDED.updated_at").Exec(ctx); err != nil {
			return err
		}
		if err := s.openDefaults(ctx, tx, q.RegionID); err != nil {
			return err
		}
		return s.install(ctx, tx, f, []string{q.RegionID})
	})
	s.forgetLicences()
	return nil, err
}

type updateRegionRequest struct {
	Name    string `validate:"required" doc:"1-30 characters"`
	City    string `validate:"required,max=100" doc:"city"`
	Address string `validate:"max=200" doc:"address"`
	Remark  string `validate:"max=400" doc:"free text"`
}

func (s *Service) updateRegion(ctx context.Context, c *action.Call, q *updateRegionRequest) (*action.Empty, error) {
	if utf8.RuneCountInString(q.Name) > 30 {
		return nil, retcode.InvalidParameter.Errorf("Name has 1 to 30 characters")
	}
	c.AddResource(c.Region)
	return nil, s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		_, err := tx.NewUpdate().Model((*region)(nil)).Set("alias = ?, city = ?, address = ?, remark = ?", q.Name, q.City, q.Address, q.Remark).
			Set("updated_at = ?, generation = generation + 1", s.Clock.Micros()).Where("id = ?", c.Region).Exec(ctx)
		return err
	})
}

type collectRequest struct {
	RegionID string `doc:"empty: the whole platform"`
}

type collectResponse struct {
	FileName  string
	FileBytes string `doc:"base64 of JSON"`
	SystemID  string
}

func (s *Service) collectLicence(ctx context.Context, _ *action.Call, q *collectRequest) (*collectResponse, error) {
	regions, err := s.RegionIDs(ctx)
	if err != nil {
		return nil, err
	}
	if q.RegionID != "" {
		if err := s.known(ctx, q.RegionID); err != nil {
			return nil, err
		}
		regions = []string{q.RegionID}
	}
	nodes, err := s.nodesOf(ctx, regions)
	if err != nil {
		return nil, err
	}
	bundle := struct {
		System  string
		Regions []string
		Nodes   []Node
	}{s.Config.SystemID(ctx), regions, nodes}
	text, err := json.MarshalIndent(bundle, "", "  ")
	if err != nil {
		return nil, err
	}
	return &collectResponse{FileName: bundle.System + ".json", FileBytes: base64.StdEncoding.EncodeToString(text), SystemID: bundle.System}, nil
}

// nodesOf lists the hosts of regions.
func (s *Service) nodesOf(ctx context.Context, regions []string) ([]Node, error) {
	if s.nodes == nil {
		return []Node{}, nil
	}
	all, err := s.nodes(ctx)
	return slices.DeleteFunc(all, func(n Node) bool { return !slices.Contains(regions, n.Region) }), err
}

type uploadRequest struct {
	FileBytes string `validate:"required,max=100000" doc:"the licence, base64"`
	AuthCode  string `doc:"code that came with the licence"`
}

type uploadResponse struct {
	LicenseID string
	Regions   []string
}

func (s *Service) uploadLicence(ctx context.Context, c *action.Call, q *uploadRequest) (*uploadResponse, error) {
	f, err := s.checkLicence(ctx, q.FileBytes, q.AuthCode)
	if err != nil {
		return nil, err
	}
	if err := s.known(ctx, f.Licence.Regions...); err != nil {
		return nil, err
	}
	c.AddResource(f.Licence.ID)
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error { return s.install(ctx, tx, f, f.Licence.Regions) })
	s.forgetLicences()
	return &uploadResponse{f.Licence.ID, f.Licence.Regions}, err
}

type describeLicenceRequest struct {
	RegionID    string `doc:"region; empty: all"`
	LicenseType string `validate:"omitempty,oneof=Base Extension Service" doc:"kind of item"`
	action.Page
}

type describeLicenceResponse struct {
	Infos      []licenceItem
	TotalCount int
}

type licenceItem struct {
	LicenseID   string
	ProductName string
	Description string
	LicenseType string
	State       string `doc:"UNLICENSED, LICENSED, EXPIRED"`
	RegionID    string
	BeginTime   int64
	EndTime     int64 `doc:"0: never"`
	Details     []licenceDetail
}

type licenceDetail struct {
	Content  string
	Unit     string
	Quantity int64 `doc:"0: any number"`
	Used     int64
}

func (s *Service) describeLicence(ctx context.Context, _ *action.Call, q *describeLicenceRequest) (*describeLicenceResponse, error) {
	regions, err := s.RegionIDs(ctx)
	if err != nil {
		return nil, err
	}
	if q.RegionID != "" {
		if err := s.known(ctx, q.RegionID); err != nil {
			return nil, err
		}
		regions = []string{q.RegionID}
	}
	var all []licenceItem
	for _, r := range regions {
		state, row, err := s.licenceState(ctx, r)
		if err != nil {
			return nil, err
		}
		licence := row.licence()
		nodes, err := s.nodesOf(ctx, []string{r})
		if err != nil {
			return nil, err
		}
		item := licenceItem{LicenseID: licence.ID, ProductName: "Lingyun", Description: "Standard edition", LicenseType: "Base", State: state, RegionID: r,
			BeginTime: licence.Begin, EndTime: licence.End, Details: []licenceDetail{{"Node", "pcs", int64(licence.Nodes), int64(len(nodes))}}}
		all = append(all, item)
		for _, feature := range licence.Features {
			item.ProductName, item.Description, item.LicenseType, item.Details = feature, feature, "Extension", []licenceDetail{}
			all = append(all, item)
		}
	}
	all = slices.DeleteFunc(all, func(i licenceItem) bool { return q.LicenseType != "" && q.LicenseType != i.LicenseType })
	return &describeLicenceResponse{cut(all, q.Offset, q.Limit), len(all)}, nil
}

type describeNodeRequest struct {
	RegionID string `doc:"region; empty: all"`
	Keyword  string `doc:"part of name or id"`
	action.Page
}

type describeNodeResponse struct {
	Infos      []licenceNode
	TotalCount int
}

type licenceNode struct {
	NodeID       string
	Name         string
	NodeIP       string
	SerialNumber string
	Roles        []string
	LicenseState string `doc:"UNLICENSED: beyond the number of the licence, or without one; LICENSED, EXPIRED"`
	CPUModel     string
	CPU          int64 `doc:"cores"`
	Memory       int64 `doc:"MiB"`
	Arch         string
}

// describeLicenceNode lists the hosts: as many of a region's as its licence counts have the licence's state.
func (s *Service) describeLicenceNode(ctx context.Context, _ *action.Call, q *describeNodeRequest) (*describeNodeResponse, error) {
	regions, err := s.RegionIDs(ctx)
	if err != nil {
		return nil, err
	}
	if q.RegionID != "" {
		regions = slices.DeleteFunc(regions, func(r string) bool { return r != q.RegionID })
	}
	var all []licenceNode
	for _, r := range regions {
		state, row, err := s.licenceState(ctx, r)
		if err != nil {
			return nil, err
		}
		licence := row.licence()
		nodes, err := s.nodesOf(ctx, []string{r})
		if err != nil {
			return nil, err
		}
		for i, n := range nodes {
			node := licenceNode{NodeID: n.ID, Name: n.Name, NodeIP: n.Address, SerialNumber: n.ID, Roles: []string{"compute", "storage"}, LicenseState: state,
				CPU: n.CPUs, Memory: n.MemoryMiB, Arch: n.Arch}
			if licence.Nodes > 0 && i >= licence.Nodes {
				node.LicenseState = unlicensed
			}
			all = append(all, node)
		}
	}
	word := strings.ToLower(q.Keyword)
	all = slices.DeleteFunc(all, func(n licenceNode) bool { return !strings.Contains(strings.ToLower(n.Name+"\n"+n.NodeID), word) })
	return &describeNodeResponse{cut(all, q.Offset, q.Limit), len(all)}, nil
}
