package compute

import (
	"cmp"
	"context"
	"crypto/md5" //nolint:gosec // the protocol's check of a part, not a proof of anything
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/lingyun-cloud/lingyun/internal/action"
	"github.com/lingyun-cloud/lingyun/internal/database"
	"github.com/lingyun-cloud/lingyun/internal/retcode"
	"github.com/lingyun-cloud/lingyun/internal/workflow"
)

// UploadPath is where parts of images are sent: PUT UploadPath + token.
const UploadPath = "/upload/"

// Limits of uploads.
const (
	defaultPartSize = 64 << 20 // bytes
	leastPartSize   = 64 << 10
	mostPartSize    = 1 << 30
	maxParts        = 10000
	uploadLife      = 7 * 24 * time.Hour
	partLinkLife    = time.Hour
)

// upload is a row of images that come in parts.
type upload struct {
	bun.BaseModel `bun:"table:image_upload"`

	ID        string `bun:"id,pk"`
	ImageID   string `bun:"image_id"`
	PartSize  int64  `bun:"part_size"`
	MostBytes int64  `bun:"most_bytes"`
	CreatedAt int64  `bun:"created_at"`
	ExpireAt  int64  `bun:"expire_at"`
	Closed    bool   `bun:"closed"`
}

// part is one that has come.
type part struct {
	bun.BaseModel `bun:"table:image_part"`

	UploadID  string `bun:"upload_id,pk"`
	Number    int    `bun:"number,pk"`
	Size      int64  `bun:"size"`
	ETag      string `bun:"etag"`
	UpdatedAt int64  `bun:"updated_at"`
}

func (s *Service) uploadDir(id string) string { return filepath.Join(s.WorkDir, id) }

func (s *Service) partFile(id string, number int) string {
	return filepath.Join(s.uploadDir(id), strconv.Itoa(number))
}

// workFile is where an image's file is put together.
func (s *Service) workFile(image string) (string, error) {
	return filepath.Join(s.WorkDir, image+".part"), os.MkdirAll(s.WorkDir, 0o700)
}

// uploadOf finds an open upload of an image in the scope: 1000, 200, 1002.
func (s *Service) uploadOf(ctx context.Context, idb bun.IDB, scope action.Scope, imageID, uploadID string) (*Image, *upload, error) {
	i, err := ownImage(ctx, idb, scope, imageID)
	if err != nil {
		return nil, nil, err
	}
	rows, err := database.Find[upload](ctx, idb, "WHERE id = ? AND image_id = ?", uploadID, i.ID)
	if err != nil {
		return nil, nil, err
	}
	if i.State != ImageUploading {
		return nil, nil, retcode.InvalidImageState.Errorf("image %s takes no parts any more", i.ID)
	}
	if len(rows) == 0 {
		return nil, nil, retcode.ResourceNotFound.Errorf("UploadID %s", uploadID)
	}
	u := &rows[0]
	if u.Closed || u.ExpireAt <= s.Clock.Micros() {
		return nil, nil, retcode.InvalidImageState.Errorf("image %s takes no parts any more", i.ID)
	}
	return i, u, nil
}

// uploadToken is what the address of a part carries, sealed.
type uploadToken struct {
	Upload string
	Number int
	Size   int64  `json:",omitempty"` // announced; 0: not
	MD5    string `json:",omitempty"` // likewise, hex
	Ends   int64  // unix microseconds
}

const uploadSeal = "image upload"

type uploadPartRequest struct {
	ImageID    string `validate:"required" doc:"image id"`
	UploadID   string `validate:"required" doc:"from ImportImage"`
	PartNumber int    `validate:"required,min=1,max=10000" doc:"where it belongs; the same number again replaces it"`
	PartSize   int64  `validate:"min=0" doc:"bytes, to be checked"`
	ContentMD5 string `doc:"base64, to be checked"`
	action.Tenant
}

type uploadPartResponse struct {
	UploadURL  string `doc:"PUT the raw bytes here"`
	ExpireTime int64
	Method     string
}

func (s *Service) uploadPart(ctx context.Context, c *action.Call, q *uploadPartRequest) (*uploadPartResponse, error) {
	_, u, err := s.uploadOf(ctx, s.DB.Reader(), c.Scope(), q.ImageID, q.UploadID)
	if err != nil {
		return nil, err
	}
	if q.PartSize > u.PartSize {
		return nil, retcode.InvalidParameter.Errorf("PartSize is at most %d", u.PartSize)
	}
	if err := s.roomFor(ctx, s.DB.Reader(), u, q.PartNumber, q.PartSize); err != nil {
		return nil, err
	}
	t := uploadToken{Upload: u.ID, Number: q.PartNumber, Size: q.PartSize, Ends: s.Clock.Now().Add(partLinkLife).UnixMicro()}
	if q.ContentMD5 != "" {
		sum, err := base64.StdEncoding.DecodeString(q.ContentMD5)
		if err != nil || len(sum) != md5.Size {
			return nil, retcode.InvalidParameterFormat.Errorf("ContentMD5 must be 16 bytes in base64")
		}
		t.MD5 = hex.EncodeToString(sum)
	}
	raw, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	token := base64.RawURLEncoding.EncodeToString([]byte(s.Secret.Seal(raw, uploadSeal)))
	return &uploadPartResponse{UploadURL: s.Base + UploadPath + url.PathEscape(token), ExpireTime: seconds(t.Ends), Method: http.MethodPut}, nil
}

// roomFor refuses a part that would make the image too large (1017).
func (s *Service) roomFor(ctx context.Context, idb bun.IDB, u *upload, number int, size int64) error {
	var others int64
	if err := idb.NewSelect().Model((*part)(nil)).ColumnExpr("CAST(COALESCE(SUM(size), 0) AS BIGINT)").Where("upload_id = ? AND number <> ?", u.ID, number).
		Scan(ctx, &others); err != nil {
		return err
	}
	if others+size > u.MostBytes {
		return retcode.ImageTooLarge.Errorf("the image may have %d bytes, %d have come", u.MostBytes, others)
	}
	return nil
}

// ServeUpload takes one part: 201 with its ETag.
func (s *Service) ServeUpload(w http.ResponseWriter, r *http.Request) {
	fail := func(status int, text string) { http.Error(w, text, status) }
	var t uploadToken
	raw, err := base64.RawURLEncoding.DecodeString(r.PathValue("token"))
	if err == nil {
		raw, err = s.Secret.Open(string(raw), uploadSeal)
	}
	if err == nil {
		err = json.Unmarshal(raw, &t)
	}
	switch {
	case err != nil:
		fail(http.StatusNotFound, "there is no such upload")
		return
	case t.Ends <= s.Clock.Micros():
		fail(http.StatusGone, "this address has ended: ask for a new one")
		return
	}
	// A part may take longer than any request otherwise.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(partLinkLife)) // without it, the server's own holds
	_ = control.SetWriteDeadline(time.Now().Add(partLinkLife))
	etag, err := s.takePart(r.Context(), t, r.Body)
	var coded *retcode.Error
	switch {
	case err == nil:
		w.Header().Set("ETag", `"`+etag+`"`)
		w.WriteHeader(http.StatusCreated)
	case errors.As(err, &coded) && coded.Code == retcode.ImageTooLarge:
		fail(http.StatusRequestEntityTooLarge, coded.Error())
	case errors.As(err, &coded) && coded.Code != retcode.ServiceError:
		fail(http.StatusConflict, coded.Error())
	default:
		fail(http.StatusInternalServerError, "the part could not be stored, try again")
	}
}

// takePart stores a part, under another name first: what is cut short leaves nothing.
func (s *Service) takePart(ctx context.Context, t uploadToken, body io.Reader) (etag string, err error) {
	rows, err := database.Find[upload](ctx, s.DB.Reader(), "WHERE id = ?", t.Upload)
	if err != nil {
		return "", err
	}
	if len(rows) == 0 || rows[0].Closed || rows[0].ExpireAt <= s.Clock.Micros() {
		return "", retcode.InvalidImageState.Errorf("the upload takes no parts any more")
	}
	u := &rows[0]
	if err := os.MkdirAll(s.uploadDir(u.ID), 0o700); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(s.uploadDir(u.ID), ".part-*")
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name()) // fails after the rename, as it should
	defer f.Close()
	sum := md5.New()
	most := u.PartSize
	if t.Size > 0 {
		most = t.Size
	}
	n, err := io.Copy(io.MultiWriter(f, sum), io.LimitReader(body, most+1))
	if err != nil {
		return "", err
	}
	etag = hex.EncodeToString(sum.Sum(nil))
	switch {
	case n > most:
		return "", retcode.ImageTooLarge.Errorf("a part has at most %d bytes", most)
	case n == 0 || t.Size > 0 && n != t.Size:
		return "", retcode.InvalidParameter.Errorf("%d bytes came, %d were announced", n, t.Size)
	case t.MD5 != "" && t.MD5 != etag:
		return "", retcode.InvalidParameter.Errorf("what came is not what was announced")
	}
	if err := f.Sync(); err != nil {
		return "", err
	}
	err = s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		// Whoever closes the upload changes this row.
		r, err := tx.NewUpdate().Model((*upload)(nil)).Set("expire_at = expire_at").Where("id = ? AND closed = ?", u.ID, false).Exec(ctx)
		if err != nil {
			return err
		}
		if open, err := r.RowsAffected(); err != nil || open != 1 {
			return errors.Join(err, retcode.InvalidImageState.Errorf("the upload takes no parts any more"))
		}
		if err := s.roomFor(ctx, tx, u, t.Number, n); err != nil {
			return err
		}
		if err := os.Rename(f.Name(), s.partFile(u.ID, t.Number)); err != nil {
			return err
		}
		_, err = tx.NewInsert().Model(&part{UploadID: u.ID, Number: t.Number, Size: n, ETag: etag, UpdatedAt: s.Clock.Micros()}).
			On("CONFLICT (upload_id, number) DO UPDATE").Set("size = EXCLUDED.size").Set("etag = EXCLUDED.etag").Set("updated_at = EXCLUDED.updated_at").Exec(ctx)
		return err
	})
	return etag, err
}

type uploadRequest struct {
	ImageID  string `validate:"required" doc:"image id"`
	UploadID string `validate:"required" doc:"from ImportImage"`
	action.Tenant
}

type imagePart struct {
	PartNumber int
	Size       int64
	ETag       string
	UpdateTime int64
}

type listPartsResponse struct {
	TotalCount int
	PartSize   int64 `doc:"bytes of all parts but the last"`
	Infos      []imagePart
}

func parts(ctx context.Context, idb bun.IDB, id string) ([]part, error) {
	return database.Find[part](ctx, idb, "WHERE upload_id = ? ORDER BY number", id)
}

func (s *Service) listParts(ctx context.Context, c *action.Call, q *uploadRequest) (*listPartsResponse, error) {
	_, u, err := s.uploadOf(ctx, s.DB.Reader(), c.Scope(), q.ImageID, q.UploadID)
	if err != nil {
		return nil, err
	}
	rows, err := parts(ctx, s.DB.Reader(), u.ID)
	if err != nil {
		return nil, err
	}
	out := &listPartsResponse{TotalCount: len(rows), PartSize: u.PartSize, Infos: []imagePart{}}
	for _, p := range rows {
		out.Infos = append(out.Infos, imagePart{PartNumber: p.Number, Size: p.Size, ETag: p.ETag, UpdateTime: seconds(p.UpdatedAt)})
	}
	return out, nil
}

type completeRequest struct {
	ImageID  string         `validate:"required" doc:"image id"`
	UploadID string         `validate:"required" doc:"from ImportImage"`
	Parts    []completePart `doc:"empty: all that have come"`
	action.Tenant
}

type completePart struct {
	PartNumber int    `validate:"required" doc:"1 to 10000"`
	ETag       string `doc:"as the upload of the part answered it"`
}

// completeUpload closes an upload: its parts are joined, without gaps.
func (s *Service) completeUpload(ctx context.Context, c *action.Call, q *completeRequest) (*action.Empty, error) {
	var op string
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		i, u, err := s.uploadOf(ctx, tx, c.Scope(), q.ImageID, q.UploadID)
		if err != nil {
			return err
		}
		rows, err := parts(ctx, tx, u.ID)
		if err != nil {
			return err
		}
		if rows, err = choose(rows, q.Parts); err != nil {
			return err
		}
		if err := s.checkFirst(i.Format, s.partFile(u.ID, rows[0].Number)); err != nil {
			return err
		}
		if len(q.Parts) > 0 { // the others are not wanted
			numbers := make([]int, len(rows))
			for n, p := range rows {
				numbers[n] = p.Number
			}
			if _, err := tx.NewDelete().Model((*part)(nil)).Where("upload_id = ? AND number NOT IN (?)", u.ID, bun.In(numbers)).Exec(ctx); err != nil {
				return err
			}
		}
		r, err := tx.NewUpdate().Model(u).Set("closed = ?", true).Where("id = ? AND closed = ?", u.ID, false).Exec(ctx)
		if err != nil {
			return err
		}
		if n, err := r.RowsAffected(); err != nil || n != 1 {
			return errors.Join(err, retcode.InvalidImageState.Errorf("image %s takes no parts any more", i.ID))
		}
		if err := s.changeImage(ctx, tx, i, ImageUploading); err != nil {
			return err
		}
		op, err = s.images.join.Accept(ctx, tx, imageRequest(c, i), imageJob{Image: i.ID, Generation: i.Generation, Upload: u.ID})
		return err
	})
	if err != nil {
		return nil, err
	}
	c.AddResource(q.ImageID)
	s.Engine.Kick(op)
	return nil, nil
}

// choose takes the named parts in the order of their numbers, or all: 113 when one is missing or another one.
func choose(have []part, wanted []completePart) ([]part, error) {
	if len(wanted) == 0 {
		for n, p := range have {
			if p.Number != n+1 {
				return nil, retcode.InvalidParameter.Errorf("part %d has not come", n+1)
			}
		}
		if len(have) == 0 {
			return nil, retcode.InvalidParameter.Errorf("no part has come")
		}
		return have, nil
	}
	if len(wanted) > maxParts {
		return nil, retcode.InvalidParameter.Errorf("an image has at most %d parts", maxParts)
	}
	slices.SortFunc(wanted, func(a, b completePart) int { return cmp.Compare(a.PartNumber, b.PartNumber) })
	var out []part
	for n, w := range wanted {
		if n > 0 && wanted[n-1].PartNumber == w.PartNumber {
			return nil, retcode.InvalidParameter.Errorf("part %d is named twice", w.PartNumber)
		}
		at := slices.IndexFunc(have, func(p part) bool { return p.Number == w.PartNumber })
		if at < 0 || w.ETag != "" && strings.Trim(w.ETag, `"`) != have[at].ETag {
			return nil, retcode.InvalidParameter.Errorf("part %d has not come, or is another one", w.PartNumber)
		}
		out = append(out, have[at])
	}
	return out, nil
}

// joinParts puts the file together. Parts stay until the image is there, or has failed.
func (s *Service) joinParts(ctx context.Context, j *imageJob) error {
	i, err := anyImage(ctx, s.DB.Reader(), action.Scope{}, j.Image)
	if err != nil {
		return err
	}
	rows, err := parts(ctx, s.DB.Reader(), j.Upload)
	if err != nil {
		return err
	}
	path, err := s.workFile(i.ID)
	if err != nil {
		return err
	}
	defer os.Remove(path)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return workflow.Retry(err)
	}
	defer f.Close()
	for n, p := range rows {
		if err := s.stillWanted(ctx, i.ID); err != nil {
			return err
		}
		if err := appendFile(f, s.partFile(j.Upload, p.Number), p.Size); err != nil {
			return err
		}
		s.showProgress(ctx, i.ID, 99*(n+1)/len(rows))
	}
	return s.takeFile(ctx, i, path, j)
}

// dropParts removes the files of parts that were joined.
func (s *Service) dropParts(_ context.Context, j *imageJob) error {
	return os.RemoveAll(s.uploadDir(j.Upload))
}

func appendFile(to io.Writer, path string, size int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	n, err := io.Copy(to, f)
	if err == nil && n != size {
		err = fmt.Errorf("compute: part %s has %d bytes, not %d", filepath.Base(path), n, size)
	}
	return err
}

func (s *Service) abortUpload(ctx context.Context, c *action.Call, q *uploadRequest) (*action.Empty, error) {
	err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		i, u, err := s.uploadOf(ctx, tx, c.Scope(), q.ImageID, q.UploadID)
		if err != nil {
			return err
		}
		return s.endUpload(ctx, tx, i, u)
	})
	if err == nil {
		c.AddResource(q.ImageID)
		s.tidy.Signal()
	}
	return nil, err
}

// endUpload gives an open upload up: the image has failed.
func (s *Service) endUpload(ctx context.Context, tx bun.Tx, i *Image, u *upload) error {
	if err := s.failImage(ctx, tx, i.ID, errUnwanted); err != nil {
		return err
	}
	return s.dropUpload(ctx, tx, u.ID)
}

// dropUpload forgets an upload. Its files go with it, or with the sweep.
func (s *Service) dropUpload(ctx context.Context, tx bun.Tx, id string) error {
	if id == "" {
		return nil
	}
	for _, q := range []*bun.DeleteQuery{
		tx.NewDelete().Model((*part)(nil)).Where("upload_id = ?", id),
		tx.NewDelete().Model((*upload)(nil)).Where("id = ?", id),
	} {
		if _, err := q.Exec(ctx); err != nil {
			return err
		}
	}
	return nil
}

// sweepUploads gives up what was not completed in time, and removes files that no upload has any more.
func (s *Service) sweepUploads(ctx context.Context) error {
	late, err := database.Find[upload](ctx, s.DB.Reader(), "WHERE closed = ? AND expire_at <= ?", false, s.Clock.Micros())
	if err != nil {
		return err
	}
	for _, u := range late {
		err := s.DB.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
			i, err := anyImage(ctx, tx, action.Scope{}, u.ImageID)
			if retcode.Of(err) == retcode.ImageNotFound {
				return s.dropUpload(ctx, tx, u.ID)
			}
			if err != nil {
				return err
			}
			return s.endUpload(ctx, tx, i, &u)
		})
		if err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(s.WorkDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if !e.IsDir() {
			continue // of an image that is being made: its step removes it
		}
		open, err := s.DB.Reader().NewSelect().Model((*upload)(nil)).Where("id = ?", e.Name()).Exists(ctx)
		if err != nil {
			return err
		}
		if !open {
			errs = append(errs, os.RemoveAll(filepath.Join(s.WorkDir, e.Name())))
		}
	}
	return errors.Join(errs...)
}
